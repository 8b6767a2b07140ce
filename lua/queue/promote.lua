-- queue/promote.lua: let a delayed job wait without its delay.
-- KEYS     1 base  "<prefix>:<queue>:"
-- ARGV     1 id
-- RETURNS  0 it waits, 1 there is none, 2 it is not delayed
-- COST     O(log n)
local id = ARGV[1]
if not is_job(id) then
  return 1
elseif redis.call('ZREM', delayed_set, id) == 0 then
  return 2
end
promote_job(id, unpack(redis.call('HMGET', base .. id, 'priority', group_field), 1, 2))
release_touched()
flush_wait()
close_gate()
return 0
