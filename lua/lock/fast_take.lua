-- lock/fast_take.lua: take a fast lock, which lives in Redis alone.
-- KEYS     1 fast      hash  who has it
-- ARGV     1 owner     mark of who asks
--          2 holder    who that is, for people
--          3 request   the same again finds its own lock again
--          4 note      for people
--          5 ttl_ms
--          6 name
-- RETURNS  {1, token, left_ms, owner} taken, or found again; {0, token, left_ms, holder, note} somebody else has it
-- COST     O(1)
local fast = KEYS[1]
local owner, holder, request, note, ttl_ms = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

local known = redis.call('HMGET', fast, 'owner', 'holder', 'request', 'note', 'token')
if known[1] then
  local left_ms = redis.call('PTTL', fast)
  if known[2] == holder and known[3] == request then
    return {1, known[5], left_ms, known[1]}
  end
  return {0, known[5], left_ms, known[2], known[4]}
end
-- Grows with each grant as long as Redis's clock does: it tells holders apart, and fences nothing.
local time = redis.call('TIME')
local token = string.format('%.0f', time[1] * 1000000 + time[2])
redis.call('HSET', fast, 'owner', owner, 'holder', holder, 'request', request, 'note', note, 'token', token,
  'name', ARGV[6])
redis.call('PEXPIRE', fast, ttl_ms)
return {1, token, tonumber(ttl_ms), owner}
