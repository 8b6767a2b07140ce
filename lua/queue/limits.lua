-- queue/limits.lua: the queue's settings.
-- KEYS     1 base  "<prefix>:<queue>:"
-- RETURNS  [paused, concurrency, max, duration], each nil if not set
-- COST     O(1)
return redis.call('HMGET', meta_hash, 'paused', 'concurrency', 'max', 'duration')
