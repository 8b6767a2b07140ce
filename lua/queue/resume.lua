-- queue/resume.lua: let jobs be taken again. Call it until it returns 0.
-- KEYS     1 base  "<prefix>:<queue>:"
-- RETURNS  how many ids are left to move from BullMQ 5's list of paused jobs
-- COST     O(ids moved), at most 5000 a call
redis.call('HDEL', meta_hash, 'paused')
is_paused = false
-- To the tail of wait, the oldest last: they are older than what was added since, so they are taken first.
local moved = redis.call('LRANGE', paused_list, 0, 4999)
if #moved > 0 then
  redis.call('RPUSH', wait_list, unpack(moved))
  redis.call('LTRIM', paused_list, #moved, -1)
end
local left = redis.call('LLEN', paused_list)
if left == 0 then
  work_came, due_changed = true, true
  emit('resumed')
end
close_gate()
return left
