-- queue/position.lua: how many jobs will be taken before this one.
-- KEYS     1 base  "<prefix>:<queue>:"
-- ARGV     1 id
-- RETURNS  0 for the next one; -1 if it does not wait, or behind 10000 others
-- COST     O(its position)
local waiting = redis.call('LLEN', wait_list)
local index = redis.call('LPOS', wait_list, ARGV[1], 'RANK', -1, 'MAXLEN', 10000)
if index then
  return waiting - 1 - index
end
local rank = redis.call('ZRANK', prioritized_set, ARGV[1])
return rank and waiting + rank or -1
