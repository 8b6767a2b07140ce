-- queue/update_data.lua: replace a job's data, in whatever state.
-- KEYS     1 base  "<prefix>:<queue>:"
-- ARGV     1 id
--          2 data  JSON: with anything else nobody could run the job
-- RETURNS  0 replaced, 1 there is none
-- COST     O(1)
if not is_job(ARGV[1]) then
  return 1
end
redis.call('HSET', base .. ARGV[1], 'data', ARGV[2])
return 0
