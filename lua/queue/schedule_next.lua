-- queue/schedule_next.lua: make the run that follows a scheduler's present one.
-- Whoever takes a run calls this before working on it, Node workers with a script of their own; the first counts.
-- KEYS     1 base  "<prefix>:<queue>:"
-- ARGV     1 now   ms
--          2 run   MessagePack [scheduler, id of the run that was taken, not before and not at this time, due or nil for
--                  the next one of an interval (the same as that of a run that is gone: it is made again), options,
--                  priority, lifo, data, is_cron]
-- RETURNS  [0 made, id, due] | [1 it is not the present run, or not any more] | [2 there is no such scheduler]
--          | [3 a finished job has the next one's id, its due]
-- COST     O(log n)
local now = tonumber(ARGV[1])
local run = cmsgpack.unpack(ARGV[2])
local scheduler, taken, after, due = run[1], run[2], run[3], run[4]
local score = whole(redis.call('ZSCORE', schedulers_set, scheduler) or nil)
local definition = fields_of('repeat:' .. scheduler, 'name', 'data', 'every', 'ic')
if not score or not (definition[1] or definition[3] or definition[4]) then
  return { 2 }
elseif taken ~= run_id(scheduler, score) then
  return { 1 }
end
if not due then
  local every = whole(definition[3])
  if not every or every < 1 then
    return { 2 }
  end
  due = score + every
  if due <= after then
    due = slot_after(after, every, score) -- what was missed stays missed
  end
end

local id = run_id(scheduler, due)
if redis.call('EXISTS', base .. id) == 1 then
  if id == taken then
    return { 1 } -- it was to be made again, and somebody has
  end
  if redis.call('ZSCORE', completed_set, id) or redis.call('ZSCORE', failed_set, id) then
    return { 3, texts[due] }
  end
  redis.call('ZADD', schedulers_set, texts[due], scheduler)
  emit('duplicated', 'jobId', id)
  close_gate()
  return { 0, id, texts[due] }
end
local data = definition[2]
if not data and not definition[4] then
  data = run[8] -- repeatables of BullMQ 5 keep their data in their runs alone
  redis.call('HSET', scheduler_hash(scheduler), 'data', data)
end
redis.call('HSET', scheduler_hash(scheduler), 'ic', texts[number_of(definition[4]) + 1])
add_run(scheduler, due, now, {
  name = definition[1] or scheduler, data = data or '{}', options = run[5], priority = run[6], lifo = run[7],
  is_cron = run[9],
})
flush_wait()
close_gate()
return { 0, id, texts[due] }
