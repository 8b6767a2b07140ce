-- lock/mirror.lua: write down a lease that SQL has granted or renewed, so that others need not ask SQL each time.
-- KEYS     1 mirror    hash  the lease as SQL granted it last
-- ARGV     1 token     its fencing token; an older one than the key knows changes nothing, nor does one that was released
--          2 until_ms  when it ends, by Redis's clock: a call that comes late sets a key that is over already
--          3 holder, 4 request, 5 note, 6 name
-- RETURNS  nothing
-- COST     O(1)
local mirror = KEYS[1]
local token, until_ms = ARGV[1], ARGV[2]

local known = redis.call('HMGET', mirror, 'token', 'released')
local last = tonumber(known[1] or '0')
if last > tonumber(token) or (last == tonumber(token) and known[2]) then
  return
end
redis.call('HDEL', mirror, 'released')
redis.call('HSET', mirror, 'token', token, 'until_ms', until_ms,
  'holder', ARGV[3], 'request', ARGV[4], 'note', ARGV[5], 'name', ARGV[6])
redis.call('PEXPIREAT', mirror, until_ms)
