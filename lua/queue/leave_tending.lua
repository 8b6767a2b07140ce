-- queue/leave_tending.lua: let another server tend the groups of a queue.
-- KEYS     1 base    "<prefix>:<queue>:"
--          2 groups  "<namespace>:groups:<base>"
-- ARGV     1 token   the owner's mark
-- RETURNS  1 left, 0 it was not the caller
-- COST     O(1)
if redis.call('GET', groups .. 'tender') ~= ARGV[1] then
  return 0
end
return redis.call('DEL', groups .. 'tender')
