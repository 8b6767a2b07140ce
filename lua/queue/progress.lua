-- queue/progress.lua: store a job's progress and tell it.
-- KEYS     1 base  "<prefix>:<queue>:"
-- ARGV     1 id
--          2 progress  JSON: a listener in Node stops for good at anything else
-- RETURNS  1 stored, 0 there is no such job
-- COST     O(1)
if not is_job(ARGV[1]) then
  return 0
end
redis.call('HSET', base .. ARGV[1], 'progress', ARGV[2])
emit('progress', 'jobId', ARGV[1], 'data', ARGV[2])
close_gate()
return 1
