-- queue/clean.lua: remove jobs of one state that are old enough. Unlike BullMQ's, ages are compared as numbers.
-- KEYS     1 base    "<prefix>:<queue>:"
-- ARGV     1 now     ms, for a parent that this sets free
--          2 state   BullMQ's public name
--          3 until   ms: only jobs that old
--          4 offset  how many to pass over, from the next to run or the oldest to have finished
--          5 window  look at so many
--          6 most    remove at most so many
-- RETURNS  [how many were removed, the offset to go on with | -1 at the end]
-- COST     O(window * log n), for lists O(offset + window)
local now, state, latest = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local offset, window, most = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])

-- From which of its fields a job's age is told: the first that is there.
local ages = {
  waiting = { 'finishedOn', 'processedOn', 'timestamp' }, active = { 'finishedOn', 'processedOn', 'timestamp' },
  delayed = { 'processedOn', 'timestamp' }, prioritized = { 'timestamp' },
}
local wanted = 0

local function is_old(id)
  for _, time in ipairs(ages[state] and fields_of(id, unpack(ages[state])) or {}) do
    if time then
      return number_of(time) <= latest
    end
  end
  return true -- of the finished only the old ones are looked at
end

local function wants(id)
  local wants_it = wanted < most and not is_present_run(id) and is_old(id)
    and not (state == 'active' and redis.call('EXISTS', lock_of(id)) == 1)
  wanted = wanted + (wants_it and 1 or 0)
  return wants_it
end

local erased, kept
local is_last = true -- of the places that hold this state
if state == 'waiting' or state == 'active' then
  local list, skipped = state == 'active' and active_list or wait_list, 0
  if state == 'waiting' and offset >= redis.call('LLEN', wait_list) then
    list, skipped = paused_list, redis.call('LLEN', wait_list)
  end
  local has_lines = state == 'waiting' and redis.call('EXISTS', groups .. 'waiting') == 1
  if has_lines and list == paused_list and offset - skipped >= redis.call('LLEN', paused_list) then
    erased, kept = sweep_lines(offset - skipped - redis.call('LLEN', paused_list), window, wants, now)
  else
    erased, kept = sweep_list(list, offset - skipped, window, wants, now)
    is_last = not has_lines and (list ~= wait_list or redis.call('EXISTS', paused_list) == 0)
  end
elseif state == 'completed' or state == 'failed' then
  local ids = redis.call('ZRANGEBYSCORE', base .. state, '-inf', ARGV[3], 'LIMIT', offset, window)
  erased, kept = sweep_set(base .. state, ids, wants, now)
else
  erased, kept = sweep_set(base .. state, redis.call('ZRANGE', base .. state, offset, offset + window - 1), wants, now)
end
release_touched(now)
flush_wait()
emit('cleaned', 'count', erased)
if state == 'active' and concurrency and erased > 0 then
  work_came = true -- a place is free: somebody who was kept out may come in
end
close_gate()
local ends = erased >= most or is_last and erased + kept < window
return { erased, ends and -1 or offset + kept }
