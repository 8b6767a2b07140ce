-- queue/settle.lua: end attempts whose jobs the caller still holds, in order; then take the next jobs.
-- KEYS     1 base   "<prefix>:<queue>:"
-- ARGV     1 now    ms
--          2 ended  MessagePack, 1000 at most: [[id, token, complete | fail | retry | delay | wait | park | children | limit,
--                   value or reason, stack or nil, delay or time, [[field, value], ...]], ...]
--          3 keep   MessagePack [completed, failed, minutes of metrics], the first two [count or -1, age in s or nil, limit or nil]
--          4 take   MessagePack as in take.lua, or empty
-- RETURNS  [[0 settled | 1 lost | 2 children pending | 3 a child failed, ...], as take.lua or nil]
-- COST     O(active) a job, as active is a list; O(log n) for the sorted sets
local now = tonumber(ARGV[1])
local ended, keep_default = cmsgpack.unpack(ARGV[2]), cmsgpack.unpack(ARGV[3])

-- What can be read or written for the whole batch is one command.
local locks, are_parents = {}, false
if #ended > 0 then
  local lock_keys, children = {}, {}
  for i, attempt in ipairs(ended) do
    local key = base .. attempt[1]
    lock_keys[i] = lock_of(attempt[1])
    if attempt[3] == 'complete' or attempt[3] == 'children' then
      children[#children + 1], children[#children + 2] = key .. ':dependencies', key .. ':unsuccessful'
    end
  end
  locks = redis.call('MGET', unpack(lock_keys))
  are_parents = #children > 0 and redis.call('EXISTS', unpack(children)) > 0
end

-- What forbids the end, or nil. Nothing is written before.
local function refusal(id, job, held_by, token, act)
  if held_by ~= token or not job[1] and not is_job(id) then
    return 1
  end
  if are_parents and (act == 'complete' or act == 'children') then
    local key = base .. id
    if redis.call('EXISTS', key .. ':unsuccessful') == 1 then
      return 3
    elseif act == 'complete' and redis.call('EXISTS', key .. ':dependencies') == 1 then
      return 2
    end
  end
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

local function fail_attempt(id, job, reason, stack)
  redis.call('HSET', base .. id, 'failedReason', reason, 'stacktrace',
    stacks_with(job[4], stack, options_of(job[1]).stackTraceLimit), 'atm', texts[number_of(job[2]) + 1])
end

local function delay_until(id, due)
  redis.call('HSET', base .. id, 'delay', due - now)
  push_delayed(id, due)
  emit('delayed', 'jobId', id, 'delay', due)
end

local has_groups = any_groups()
local groups_of_jobs = {}

local function write_fields(id, fields)
  for _, field in ipairs(fields) do
    redis.call('HSET', base .. id, field[1], field[2])
  end
end

local completed, failed = 0, 0
local acts = {}

function acts.complete(id, job, value)
  finish_job(id, job, { completes = true, text = value }, keep_default, now)
  completed = completed + 1
end

function acts.fail(id, job, reason, stack)
  finish_job(id, job, { completes = false, text = reason, stack = stack }, keep_default, now)
  failed = failed + 1
end

function acts.retry(id, job, reason, stack, delay)
  fail_attempt(id, job, reason, stack)
  if delay > 0 then
    delay_until(id, now + delay)
  elseif groups_of_jobs[id] then
    grouping().enter_line(id, groups_of_jobs[id], number_of(job[3]))
  else
    push_waiting(id, number_of(job[3]), options_of(job[1]).lifo == true)
    emit('waiting', 'jobId', id, 'prev', 'active')
  end
end

function acts.delay(id, _, _, _, due, fields)
  write_fields(id, fields)
  delay_until(id, math.max(due, now))
end

function acts.wait(id, job, _, _, _, fields)
  write_fields(id, fields)
  push_front(id, not groups_of_jobs[id] and number_of(job[3]) or 0)
  emit('waiting', 'jobId', id, 'prev', 'active')
end

function acts.park(id, _, _, _, _, fields)
  write_fields(id, fields)
  redis.call('ZADD', parked_set, now, id)
  emit('waiting-children', 'jobId', id, 'prev', 'active')
end

-- Until its children are done; at once if none is pending: the last may have ended just now.
function acts.children(id, job, ...)
  local waits = redis.call('EXISTS', base .. id .. ':dependencies') == 1
  return (waits and acts.park or acts.wait)(id, job, ...)
end

-- As queue.rateLimit() of BullMQ. A limit that runs longer stays.
function acts.limit(id, job, text, stack, ms, fields)
  acts.wait(id, job, text, stack, ms, fields)
  local full = '9007199254740991'
  if redis.call('GET', limiter) ~= full or redis.call('PTTL', limiter) < ms then
    redis.call('SET', limiter, full, 'PX', math.max(1, ms))
  end
end

-- Whether a job of a group goes back to wait: it has had its turn, and keeps its place.
local function stays_out(id, act)
  return act == 'wait' or act == 'limit'
    or act == 'children' and redis.call('EXISTS', base .. id .. ':dependencies') == 0
end

local outcomes, released, lock_keys = {}, {}, {}
-- A parent may wait for a child of the same batch: then one after the other.
local step = are_parents and 1 or math.max(1, #ended)
for first = 1, #ended, step do
  local jobs, leaving = {}, {}
  for i = first, math.min(first + step - 1, #ended) do
    local id, token, act = ended[i][1], ended[i][2], ended[i][3]
    jobs[i] = fields_of(id, unpack(ending_fields))
    outcomes[i] = refusal(id, jobs[i], locks[i], token, act) or 0
    if outcomes[i] == 0 then
      leaving[#leaving + 1] = id
    end
  end
  local left = leave_active(leaving)
  for i = first, math.min(first + step - 1, #ended) do
    local attempt = ended[i]
    local id = attempt[1]
    if outcomes[i] == 0 and left[id] then
      left[id] = nil -- an attempt that is told twice ends once
      released[#released + 1], lock_keys[#lock_keys + 1] = id, lock_of(id)
      if has_groups then
        groups_of_jobs[id] = fields_of(id, group_field)[1] or nil
        if not stays_out(id, attempt[3]) then
          grouping().end_release(id)
        end
      end
      acts[attempt[3]](id, jobs[i], attempt[4], attempt[5], attempt[6], attempt[7])
    elseif outcomes[i] == 0 then
      outcomes[i] = 1 -- whoever is not in active any more was taken away in spite of the lock
    end
  end
end
if #released > 0 then
  redis.call('DEL', unpack(lock_keys))
  redis.call('SREM', stalled_set, unpack(released))
end
prune_finished(now)
release_touched(now)
flush_wait()
count_all_ended(completed, failed, keep_default[3], now)

local taken = false
if ARGV[4] ~= '' then
  taken = take_jobs(cmsgpack.unpack(ARGV[4]), now, has_groups)
end
-- BullMQ says drained when a finisher found nothing to go on with, now or later.
local found_nothing = not taken or (#taken[1] == 0 and taken[2] == -1 and taken[3] == -1 and not is_paused)
if completed + failed > 0 and found_nothing and not work_waits() and redis.call('LLEN', active_list) == 0
  and not (has_groups and redis.call('EXISTS', groups .. 'waiting') == 1) then
  emit('drained')
end
if concurrency and #released > 0 then
  work_came = true -- a place is free: somebody who was kept out may come in
end
close_gate()
return { outcomes, taken }
