-- queue/counts.lua: how many jobs are in each state.
-- KEYS     1 base  "<prefix>:<queue>:"
-- RETURNS  [waiting (also in lines of groups), active, delayed, prioritized, waiting-children, completed, failed]
-- COST     O(1)
local in_lines = tonumber(redis.call('GET', groups .. 'waiting') or nil) or 0
return {
  redis.call('LLEN', wait_list) + redis.call('LLEN', paused_list) + in_lines,
  redis.call('LLEN', active_list),
  redis.call('ZCARD', delayed_set),
  redis.call('ZCARD', prioritized_set),
  redis.call('ZCARD', parked_set),
  redis.call('ZCARD', completed_set),
  redis.call('ZCARD', failed_set),
}
