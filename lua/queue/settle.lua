-- queue/settle.lua: end attempts whose jobs the caller still holds, in order; then take the next jobs.
-- KEYS     1 base   "<prefix>:<queue>:"
-- ARGV     1 now    ms
--          2 ended  MessagePack, 1000 at most: [[id, token, complete | fail | retry | delay | wait | park | children | limit,
--                   value or reason, stack or nil, delay or time, [[field, value], ...] or nil,
--                   of children: [bases of other queues, new children as flow.lua has them] or nil], ...]
--          3 keep   MessagePack [completed, failed, minutes of metrics], the first two [count or -1, age in s or nil, limit or nil]
--          4 take   MessagePack as in take.lua, or empty
-- RETURNS  [[0 settled | 1 lost | 2 children pending | 3 a child failed | [why there can be no such new children, as
--          add_flow.lua says it, or 7 unreadable keys; their place], ...], as take.lua or nil]
-- COST     O(active) a job, as active is a list; O(log n) for the sorted sets and for each new child
local now = tonumber(ARGV[1])
-- `ended` and `keep_default` were read by lone.lua, which does the commonest calls alone.
local has_groups = any_groups()

-- What can be read or written for the whole batch is one command.
local locks, are_parents, adds = {}, false, false
if #ended > 0 then
  local lock_keys, children = {}, {}
  for i, attempt in ipairs(ended) do
    local key, act = base .. attempt[1], attempt[3]
    lock_keys[i] = key .. ':lock'
    if act == 'complete' or act == 'children' then
      children[#children + 1], children[#children + 2] = key .. ':dependencies', key .. ':unsuccessful'
      adds = adds or attempt[8]
    end
  end
  locks = redis.call('MGET', unpack(lock_keys))
  are_parents = adds or #children > 0 and redis.call('EXISTS', unpack(children)) > 0
end

-- What forbids an end because of children: their number is 2, that one has failed 3. Nothing is written before.
local function children_forbid(id, act)
  local key = base .. id
  if act ~= 'complete' and act ~= 'children' then
    return 0
  elseif redis.call('EXISTS', key .. ':unsuccessful') == 1 then
    return 3
  elseif act == 'complete' and redis.call('EXISTS', key .. ':dependencies') == 1 then
    return 2
  end
  return 0
end

-- Takes ids out of active; returns the set of those that were in it. When most of a short list goes, it is written anew:
-- to search it for each costs more. From the tail, as an id that stands in it twice loses the last place.
local function leave_active(ids)
  local left = {}
  if #ids >= 4 and redis.call('LLEN', active_list) <= 4 * #ids then
    local wanted, stay = {}, {}
    for _, id in ipairs(ids) do
      wanted[id] = true
    end
    local active = redis.call('LRANGE', active_list, 0, -1)
    for i = #active, 1, -1 do
      local id = active[i]
      if wanted[id] and not left[id] then
        left[id] = true
      else
        stay[#stay + 1] = id
      end
    end
    redis.call('DEL', active_list)
    for first = 1, #stay, 5000 do
      redis.call('LPUSH', active_list, unpack(stay, first, math.min(first + 4999, #stay)))
    end
  else
    for _, id in ipairs(ids) do
      left[id] = left[id] or redis.call('LREM', active_list, -1, id) == 1
    end
  end
  return left
end

-- New children of a job: looked at before anything is written, and added when it is sure that the job is held. Anything may
-- stand under the keys of other queues: that must not keep the batch from its end.
local function look_at_children(id, new)
  new.queues = { base, unpack(new[1]) }
  local readable, refusal, there = pcall(endings().look_at_flow, new.queues, new[2], id)
  if not readable then
    return { 7, 0 }
  elseif refusal > 0 then
    return { refusal, there }
  end
  new.there = there
  return 0
end

local function add_children(id, new)
  flush_wait() -- what came before them stands before them
  return pcall(endings().add_flow, new.queues, new[2], id, new.there, now)
end

local groups_of_jobs = {}
local completed, failed = 0, 0
local plainly_completed = {} -- flat (score, id), until they are written

-- Most jobs stay when they complete, and nobody else waits for them: two commands each. The others end by endings().
local keep_completed, now_text = keep_default[1], texts[now]
local function complete(id, job, value)
  local options = job[1]
  completed = completed + 1
  if job[3] or job[4] or job[6] or keep_completed[1] == 0 or options and string.find(options, 'removeOn', 1, true) then
    endings().complete(id, job, value, keep_default, now)
    return
  end
  local call, attempts = redis.call, job[2]
  call('HSET', base .. id, 'returnvalue', value, 'finishedOn', now_text, 'atm', attempts and texts[number_of(attempts) + 1] or '1')
  call('XADD', event_stream, '*', 'event', 'completed', 'jobId', id, 'returnvalue', value, 'prev', 'active')
  plainly_completed[#plainly_completed + 1], plainly_completed[#plainly_completed + 2] = now_text, id
end

local made_acts

-- Whatever else may become of a job; made when it is met, as endings() are.
local function acts()
  if made_acts then
    return made_acts
  end
  local ends = endings()
  made_acts = {}

  local function fail_attempt(id, job, reason, stack)
    redis.call('HSET', base .. id, 'failedReason', reason, 'stacktrace',
      ends.stacks_with(job[8], stack, ends.options_of(job[1]).stackTraceLimit), 'atm', texts[number_of(job[2]) + 1])
  end

  local function delay_until(id, due)
    redis.call('HSET', base .. id, 'delay', due - now)
    push_delayed(id, due)
    emit('delayed', 'jobId', id, 'delay', due)
  end

  local function write_fields(id, fields)
    for _, field in ipairs(fields or {}) do
      redis.call('HSET', base .. id, field[1], field[2])
    end
  end

  function made_acts.fail(id, job, reason, stack)
    ends.fail(id, job, reason, stack, nil, keep_default, now)
    failed = failed + 1
  end

  function made_acts.retry(id, job, reason, stack, delay)
    fail_attempt(id, job, reason, stack)
    if delay > 0 then
      delay_until(id, now + delay)
    elseif groups_of_jobs[id] then
      grouping().enter_line(id, groups_of_jobs[id], number_of(job[7]))
    else
      push_waiting(id, number_of(job[7]), ends.options_of(job[1]).lifo == true)
      emit('waiting', 'jobId', id, 'prev', 'active')
    end
  end

  function made_acts.delay(id, _, _, _, due, fields)
    write_fields(id, fields)
    delay_until(id, math.max(due, now))
  end

  function made_acts.wait(id, job, _, _, _, fields)
    write_fields(id, fields)
    push_front(id, not groups_of_jobs[id] and number_of(job[7]) or 0)
    emit('waiting', 'jobId', id, 'prev', 'active')
  end

  function made_acts.park(id, _, _, _, _, fields)
    write_fields(id, fields)
    redis.call('ZADD', parked_set, now, id)
    emit('waiting-children', 'jobId', id, 'prev', 'active')
  end

  -- Until its children are done; at once if none is pending: the last may have ended just now.
  function made_acts.children(id, job, ...)
    local waits = redis.call('EXISTS', base .. id .. ':dependencies') == 1
    return (waits and made_acts.park or made_acts.wait)(id, job, ...)
  end

  -- As queue.rateLimit() of BullMQ, which also ends a window that is just counted. A limit that runs longer stays.
  function made_acts.limit(id, job, text, stack, ms, fields)
    made_acts.wait(id, job, text, stack, ms, fields)
    local full = '9007199254740991'
    if redis.call('GET', limiter) ~= full or redis.call('PTTL', limiter) < ms then
      redis.call('SET', limiter, full, 'PX', math.max(1, ms))
    end
  end

  return made_acts
end

-- A job of a group does not count against it any more, unless it goes back to wait: it has had its turn, and keeps its place.
local function leave_group(id, act)
  groups_of_jobs[id] = fields_of(id, group_field)[1] or nil
  local stays_out = act == 'wait' or act == 'limit'
    or act == 'children' and redis.call('EXISTS', base .. id .. ':dependencies') == 0
  if not stays_out then
    grouping().end_release(id)
  end
end

local outcomes, released, lock_keys = {}, {}, {}
-- A parent may wait for a child of the same batch: then one after the other.
local step = are_parents and 1 or math.max(1, #ended)
for first = 1, #ended, step do
  local jobs, leaving, last = {}, {}, math.min(first + step - 1, #ended)
  for i = first, last do
    local attempt = ended[i]
    local id, act = attempt[1], attempt[3]
    -- As finish.lua wants them; the last two matter only where it does not complete.
    local job = act == 'complete' and fields_of(id, 'opts', 'atm', 'deid', 'parentKey', 'parent', 'defa')
      or fields_of(id, 'opts', 'atm', 'deid', 'parentKey', 'parent', 'defa', 'priority', 'stacktrace')
    if locks[i] ~= attempt[2] or not job[1] and not is_job(id) then
      outcomes[i] = 1
    else
      outcomes[i] = are_parents and children_forbid(id, act) or 0
    end
    if adds and attempt[8] and outcomes[i] == 0 then
      outcomes[i] = look_at_children(id, attempt[8])
    end
    if outcomes[i] == 0 then
      jobs[i], leaving[#leaving + 1] = job, id
    end
  end
  local left = leave_active(leaving)
  for i = first, last do
    local attempt, job = ended[i], jobs[i]
    local id, act = attempt[1], attempt[3]
    if job and left[id] then
      left[id] = nil -- an attempt that is told twice ends once
      released[#released + 1], lock_keys[#lock_keys + 1] = id, base .. id .. ':lock'
      if adds and attempt[8] and not add_children(id, attempt[8]) then
        -- Not waited for: some of them may be there, and others not.
        act, attempt[4] = 'fail', "its children could not all be added: a queue's keys are not what they should be"
      end
      if has_groups then
        leave_group(id, act)
      end
      if act == 'complete' then
        complete(id, job, attempt[4])
      else
        acts()[act](id, job, attempt[4], attempt[5], attempt[6], attempt[7])
      end
    elseif job then
      outcomes[i] = 1 -- whoever is not in active any more was taken away in spite of the lock
    end
  end
end
if #released > 0 then
  redis.call('DEL', unpack(lock_keys))
  redis.call('SREM', stalled_set, unpack(released))
end
if #plainly_completed > 0 then
  events_sent = true
  redis.call('ZADD', completed_set, unpack(plainly_completed))
  if keep_completed[1] > 0 or keep_completed[2] then
    endings().keep_by_default(completed_set, keep_completed)
  end
end
if made_endings then
  endings().prune(now)
end
release_touched(now)
flush_wait()
count_all_ended(completed, failed, keep_default[3], now)

local taken = false
if ARGV[4] ~= '' then
  taken = take_jobs(cmsgpack.unpack(ARGV[4]), now, has_groups)
end
-- BullMQ says drained when a finisher found nothing to go on with, now or later.
local found_nothing = not taken or (#taken[1] == 0 and taken[3] == -1 and taken[4] == -1 and not is_paused)
if completed + failed > 0 and found_nothing and not work_waits() and redis.call('LLEN', active_list) == 0
  and not (has_groups and redis.call('EXISTS', groups .. 'waiting') == 1) then
  emit('drained')
end
if concurrency and #released > 0 then
  work_came = true -- a place is free: somebody who was kept out may come in
end
close_gate()
return { outcomes, taken }
