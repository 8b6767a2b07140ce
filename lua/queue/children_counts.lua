-- queue/children_counts.lua: how many children a job has, by what became of them.
-- KEYS     1 base  "<prefix>:<queue>:"
-- ARGV     1 id
-- RETURNS  [unprocessed, processed, ignored, failed]
-- COST     O(1)
local key = base .. ARGV[1]
return {
  redis.call('SCARD', key .. ':dependencies'),
  redis.call('HLEN', key .. ':processed'),
  redis.call('HLEN', key .. ':failed'),
  redis.call('ZCARD', key .. ':unsuccessful'),
}
