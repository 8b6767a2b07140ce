-- queue/logs.lua: lines of a job's log, the oldest first.
-- KEYS     1 base   "<prefix>:<queue>:"
-- ARGV     1 id
--          2 start  how many to skip
--          3 limit  at most so many
-- RETURNS  [lines, how many there are in all], or nil if there is no such job
-- COST     O(start + limit)
local logs, start = base .. ARGV[1] .. ':logs', tonumber(ARGV[2])
if redis.call('EXISTS', base .. ARGV[1]) == 0 then
  return false
end
local last = start + tonumber(ARGV[3]) - 1
return { last < start and {} or redis.call('LRANGE', logs, start, last), redis.call('LLEN', logs) }
