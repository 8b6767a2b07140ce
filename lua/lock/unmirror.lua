-- lock/unmirror.lua: forget a lease that has ended before its time, and wake who waits for it.
-- KEYS     1 mirror    hash  the lease as SQL granted it last
-- ARGV     1 token     its fencing token; the mirror of a later grant stays
--          2 channel   on which waiters are woken
--          3 word      what they listen for
--          4 kept_ms   how long it is remembered that this grant is over
-- RETURNS  nothing
-- COST     O(1)
local mirror = KEYS[1]
local token, channel, word, kept_ms = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local known = redis.call('HGET', mirror, 'token')
if tonumber(known or '0') <= tonumber(token) then
  -- A renewal that was granted before may be told after this: it must not bring the lease back.
  redis.call('DEL', mirror)
  redis.call('HSET', mirror, 'token', token, 'released', '1')
  redis.call('PEXPIRE', mirror, kept_ms)
end
redis.call('PUBLISH', channel, word)
