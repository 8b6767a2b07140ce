-- lock/fast_release.lua: give a fast lock back.
-- KEYS     1 fast      hash  who has it
-- ARGV     1 owner     mark of who asks
--          2 channel   on which waiters are woken
--          3 word      what they listen for
-- RETURNS  1 released, 0 the owner has it no more
-- COST     O(1)
local fast = KEYS[1]
local owner, channel, word = ARGV[1], ARGV[2], ARGV[3]
if redis.call('HGET', fast, 'owner') ~= owner then
  return 0
end
redis.call('DEL', fast)
redis.call('PUBLISH', channel, word)
return 1
