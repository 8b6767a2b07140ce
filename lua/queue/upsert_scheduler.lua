-- queue/upsert_scheduler.lua: set a scheduler up, or anew, with its first run.
-- KEYS     1 base       "<prefix>:<queue>:"
-- ARGV     1 now        ms
--          2 scheduler  MessagePack [id, fields {name = value}, every or nil, offset or nil, start or nil, due or nil for
--                       an interval, options of the run, priority, lifo, name, data, is_cron]
-- RETURNS  [0 set up | 1 replaced, id of the run, its due], or [2 another job has the run's id]
-- COST     O(log n) and, where there was one, O(waiting)
local now = tonumber(ARGV[1])
local wanted = cmsgpack.unpack(ARGV[2])
local scheduler, fields, every, offset, start, due = unpack(wanted, 1, 6)

-- Where a run waits to be taken, or nil.
local function place_of(id)
  for _, set in ipairs({ delayed_set, prioritized_set }) do
    if redis.call('ZSCORE', set, id) then
      return set
    end
  end
  for _, list in ipairs({ wait_list, paused_list }) do
    if redis.call('LPOS', list, id, 'RANK', -1) then
      return list
    end
  end
end

local previous = tonumber(redis.call('ZSCORE', schedulers_set, scheduler) or nil)
local known = redis.call('HMGET', scheduler_hash(scheduler), 'every', 'offset', 'ic')
local replaced = previous and run_id(scheduler, previous)
local place = replaced and place_of(replaced)

local function is_taken(id)
  return not (place and id == replaced) and redis.call('EXISTS', base .. id) == 1
end

if every then
  if previous and tonumber(known[1]) == every then
    due = previous
    if not place then
      due = previous + every
      if due <= now then
        due = slot_after(now, every, previous)
      end
    end
  elseif start and start > now then
    due = start
  elseif offset and offset > 0 then
    due = slot_after(now, every, offset)
  else
    due = now
  end
  for _ = 1, 32 do
    if not is_taken(run_id(scheduler, due)) then
      break
    end
    due = due + every
  end
end
if is_taken(run_id(scheduler, due)) then
  return { 2 }
end

if place == delayed_set or place == prioritized_set then
  redis.call('ZREM', place, replaced)
elseif place then
  redis.call('LREM', place, -1, replaced)
end
if place then
  delete_job(replaced)
  due_changed = true
end
redis.call('DEL', scheduler_hash(scheduler))
local offset_kept = offset or tonumber(known[2]) or (every and due % every) or 0
local flat = { 'offset', texts[offset_kept], 'ic', known[3] or 1 }
for name, value in pairs(fields) do
  flat[#flat + 1], flat[#flat + 2] = name, value
end
redis.call('HSET', scheduler_hash(scheduler), unpack(flat))
local id = add_run(scheduler, due, now, {
  name = wanted[10], data = wanted[11], options = wanted[7], priority = wanted[8], lifo = wanted[9],
  is_cron = wanted[12],
})
flush_wait()
close_gate()
return { previous and 1 or 0, id, texts[due] }
