-- queue/change_priority.lua: give a job another priority; if it waits, it waits by that one from now on.
-- KEYS     1 base      "<prefix>:<queue>:"
-- ARGV     1 id
--          2 priority  0 for none
--          3 lifo      1: before the others of its priority
-- RETURNS  0 changed, 1 there is none
-- COST     O(log n); O(waiting) for a job without a priority
local id, priority = ARGV[1], tonumber(ARGV[2])
if not is_job(id) then
  return 1
end
local group = redis.call('HGET', base .. id, group_field)
if group then -- it counts inside the line; whoever was let out of it keeps the turn
  redis.call('HSET', base .. id, 'priority', texts[priority])
  if redis.call('ZSCORE', group_key('line', group), id) then
    grouping().enter_line(id, group, priority, ARGV[3] == '1')
    release_touched()
    flush_wait()
  end
  close_gate()
  return 0
end
local function is_elsewhere()
  for _, set in ipairs({ delayed_set, parked_set, completed_set, failed_set }) do
    if redis.call('ZSCORE', set, id) then
      return true
    end
  end
  return redis.call('EXISTS', lock_of(id)) == 1
end
local waits = redis.call('ZREM', prioritized_set, id) == 1
  or not is_elsewhere() and (redis.call('LREM', wait_list, -1, id) > 0 or redis.call('LREM', paused_list, -1, id) > 0)
redis.call('HSET', base .. id, 'priority', texts[priority])
if waits and ARGV[3] == '1' then
  push_front(id, priority)
elseif waits then
  push_waiting(id, priority, false)
end
flush_wait()
close_gate()
return 0
