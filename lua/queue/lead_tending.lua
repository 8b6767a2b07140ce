-- queue/lead_tending.lua: be the one of all servers that tends the groups of a queue, or stay it.
-- KEYS     1 base      "<prefix>:<queue>:"
--          2 groups    "<namespace>:groups:<base>"
-- ARGV     1 token     opaque owner mark
--          2 lease_ms
-- RETURNS  1 it is the caller, 0 somebody else
-- COST     O(1)
local tender = groups .. 'tender'
local owner = redis.call('GET', tender)
if owner and owner ~= ARGV[1] then
  return 0
end
redis.call('SET', tender, ARGV[1], 'PX', ARGV[2])
return 1
