-- queue/set_rate_limit.lua: how many jobs may be taken in a span of time in the whole queue.
-- KEYS     1 base      "<prefix>:<queue>:"
-- ARGV     1 max       empty for no limit
--          2 duration  ms
-- RETURNS  nothing
-- COST     O(1)
if ARGV[1] == '' then
  redis.call('HDEL', meta_hash, 'max', 'duration')
else
  -- Never the one without the other: Node's workers fail at that with a job in hand.
  redis.call('HSET', meta_hash, 'max', ARGV[1], 'duration', ARGV[2])
end
work_came = true -- there may be room now
close_gate()
