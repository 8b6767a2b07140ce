-- queue/set_concurrency.lua: how many jobs may be active in the whole queue.
-- KEYS     1 base   "<prefix>:<queue>:"
-- ARGV     1 limit  empty for no limit
-- RETURNS  nothing
-- COST     O(1)
if ARGV[1] == '' then
  redis.call('HDEL', meta_hash, 'concurrency')
else
  redis.call('HSET', meta_hash, 'concurrency', ARGV[1])
end
concurrency = tonumber(ARGV[1])
work_came = true -- there may be room now
close_gate()
