-- lock/fast_renew.lua: hold a fast lock longer.
-- KEYS     1 fast      hash  who has it
-- ARGV     1 owner     mark of who asks
--          2 ttl_ms    from now
-- RETURNS  its token, or 0: the owner has it no more
-- COST     O(1)
local fast = KEYS[1]
local owner, ttl_ms = ARGV[1], ARGV[2]
local known = redis.call('HMGET', fast, 'owner', 'token')
if known[1] ~= owner then
  return '0'
end
redis.call('PEXPIRE', fast, ttl_ms)
return known[2]
