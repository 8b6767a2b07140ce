-- queue/remove_rate_limit.lua: end the present rate window, so that jobs are taken at once. The limit itself stays.
-- KEYS     1 base  "<prefix>:<queue>:"
-- RETURNS  1 ended, 0 there was none
-- COST     O(1)
local ended = redis.call('DEL', limiter)
work_came = true
close_gate()
return ended
