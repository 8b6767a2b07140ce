-- queue/settle.lua: end attempts whose jobs the caller still holds, in order; then take the next jobs.
-- KEYS     1 base   "<prefix>:<queue>:"
-- ARGV     1 now    ms
--          2 ended  MessagePack [[id, token, complete | fail | retry | delay | wait | park, value or reason, stack or nil,
--                   delay or time, [[field, value], ...]], ...]
--          3 keep   MessagePack [completed, failed], each [count or -1, age in s or nil, limit or nil]
--          4 take   MessagePack as in take.lua, or empty
-- RETURNS  [[0 settled | 1 lost | 2 children pending | 3 a child failed, ...], as take.lua or nil]
-- COST     O(active) a job, as active is a list; O(log n) for the sorted sets
local now = tonumber(ARGV[1])
local ended, keep_default = cmsgpack.unpack(ARGV[2]), cmsgpack.unpack(ARGV[3])
local released = {}

-- What forbids the end, or nil. Nothing is written before.
local function refusal(id, job, token, act)
  if redis.call('GET', lock_of(id)) ~= token then
    return 1
  elseif not job[1] and redis.call('EXISTS', base .. id) == 0 then
    return 1
  end
  if act == 'complete' then
    local key = base .. id
    if redis.call('EXISTS', key .. ':dependencies', key .. ':unsuccessful') > 0 then
      return redis.call('EXISTS', key .. ':unsuccessful') == 1 and 3 or 2
    end
  end
end

local function fail_attempt(id, job, reason, stack)
  redis.call('HSET', base .. id, 'failedReason', reason, 'stacktrace',
    stacks_with(job[4], stack, options_of(job[1]).stackTraceLimit))
  redis.call('HINCRBY', base .. id, 'atm', 1)
end

local function delay_until(id, due)
  redis.call('HSET', base .. id, 'delay', due - now)
  push_delayed(id, due)
  emit('delayed', 'jobId', id, 'delay', due)
end

local finished = false
local acts = {}

function acts.complete(id, job, value)
  finish_job(id, job, { completes = true, text = value }, keep_default, now)
  finished = true
end

function acts.fail(id, job, reason, stack)
  finish_job(id, job, { completes = false, text = reason, stack = stack }, keep_default, now)
  finished = true
end

function acts.retry(id, job, reason, stack, delay)
  fail_attempt(id, job, reason, stack)
  if delay > 0 then
    delay_until(id, now + delay)
  else
    push_waiting(id, tonumber(job[3]) or 0, options_of(job[1]).lifo == true)
    emit('waiting', 'jobId', id, 'prev', 'active')
  end
end

function acts.delay(id, _, _, _, due)
  delay_until(id, math.max(due, now))
end

function acts.wait(id, job)
  push_front(id, tonumber(job[3]) or 0)
  emit('waiting', 'jobId', id, 'prev', 'active')
end

function acts.park(id, _, _, _, _, fields)
  for _, field in ipairs(fields) do
    redis.call('HSET', base .. id, field[1], field[2])
  end
  redis.call('ZADD', parked_set, now, id)
  emit('waiting-children', 'jobId', id, 'prev', 'active')
end

local outcomes = {}
for i, attempt in ipairs(ended) do
  local id, token, act = attempt[1], attempt[2], attempt[3]
  local job = redis.call('HMGET', base .. id, unpack(ending_fields))
  local outcome = refusal(id, job, token, act)
  if not outcome then
    -- Whoever is not in active any more was taken away in spite of the lock.
    outcome = redis.call('LREM', active_list, -1, id) == 1 and 0 or 1
  end
  if outcome == 0 then
    redis.call('DEL', lock_of(id))
    released[#released + 1] = id
    acts[act](id, job, attempt[4], attempt[5], attempt[6], attempt[7])
  end
  outcomes[i] = outcome
end
for first = 1, #released, 5000 do
  redis.call('SREM', stalled_set, unpack(released, first, math.min(first + 4999, #released)))
end
prune_finished(now)
flush_wait()

local taken = false
if ARGV[4] ~= '' then
  taken = take_jobs(cmsgpack.unpack(ARGV[4]), now)
end
-- BullMQ says drained when a finisher found nothing to go on with, now or later.
local found_nothing = not taken or (#taken[1] == 0 and taken[2] == -1 and taken[3] == -1 and not is_paused)
if finished and found_nothing and not work_waits() and redis.call('LLEN', active_list) == 0 then
  emit('drained')
end
if concurrency and #released > 0 then
  work_came = true -- a place is free: somebody who was kept out may come in
end
close_gate()
return { outcomes, taken }
