-- lock/unmirror.lua: forget a lease that has ended before its time, and wake who waits for it.
-- KEYS     1 mirror    hash  the lease as SQL granted it last
-- ARGV     1 token     its fencing token; the mirror of a later grant stays
--          2 channel   on which waiters are woken
--          3 word      what they listen for
-- RETURNS  nothing
-- COST     O(1)
local mirror = KEYS[1]
local token, channel, word = ARGV[1], ARGV[2], ARGV[3]

local known = redis.call('HGET', mirror, 'token')
if known and tonumber(known) <= tonumber(token) then
  redis.call('DEL', mirror)
end
redis.call('PUBLISH', channel, word)
