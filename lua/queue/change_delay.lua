-- queue/change_delay.lua: let a delayed job be due at another time.
-- KEYS     1 base   "<prefix>:<queue>:"
-- ARGV     1 now    ms
--          2 id
--          3 delay  ms from now
-- RETURNS  0 changed, 1 there is none, 2 it is not delayed
-- COST     O(log n)
local id, delay = ARGV[2], tonumber(ARGV[3])
local due = tonumber(ARGV[1]) + delay
if not is_job(id) then
  return 1
elseif redis.call('ZREM', delayed_set, id) == 0 then
  return 2
end
redis.call('HSET', base .. id, 'delay', texts[delay])
push_delayed(id, due)
emit('delayed', 'jobId', id, 'delay', texts[due])
close_gate()
return 0
