-- queue/log.lua: append a line to a job's log.
-- KEYS     1 base  "<prefix>:<queue>:"
-- ARGV     1 id
--          2 line
--          3 keep  the last so many lines; 0 for all
-- RETURNS  how many lines there are now, -1 if there is no such job
-- COST     O(1)
local logs, keep = base .. ARGV[1] .. ':logs', tonumber(ARGV[3])
if not is_job(ARGV[1]) then
  return -1
end
local lines = redis.call('RPUSH', logs, ARGV[2])
if keep > 0 then
  redis.call('LTRIM', logs, -keep, -1)
  return math.min(lines, keep)
end
return lines
