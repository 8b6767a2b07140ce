-- queue/pause.lua: stop jobs from being taken.
-- KEYS     1 base  "<prefix>:<queue>:"
-- RETURNS  nothing
-- COST     O(1)
redis.call('HSET', meta_hash, 'paused', 1)
redis.call('DEL', marker_set)
emit('paused')
close_gate()
