-- queue/extend.lua: renew a worker's locks on the jobs that it still holds.
-- KEYS     1 base      "<prefix>:<queue>:"
-- ARGV     1 lease_ms  new length of the locks
--          2 held      MessagePack [[id, token], ...]
-- RETURNS  the ids that are not the owner's any more
-- COST     O(1) a job
local lost, renewed = {}, {}
for _, hold in ipairs(cmsgpack.unpack(ARGV[2])) do
  local id, token = hold[1], hold[2]
  if redis.call('GET', lock_of(id)) == token then
    redis.call('PEXPIRE', lock_of(id), ARGV[1])
    renewed[#renewed + 1] = id
  else
    lost[#lost + 1] = id
  end
end
for first = 1, #renewed, 5000 do
  redis.call('SREM', stalled_set, unpack(renewed, first, math.min(first + 4999, #renewed)))
end
return lost
