-- queue/state.lua: where a job is.
-- KEYS     1 base  "<prefix>:<queue>:"
-- ARGV     1 id
-- RETURNS  BullMQ's public name, or nil
-- COST     O(log n); a waiting job is searched for among the next 10000, behind them it is taken to wait
local id = ARGV[1]
for _, state in ipairs({ 'completed', 'failed', 'delayed', 'prioritized', 'waiting-children' }) do
  if redis.call('ZSCORE', base .. state, id) then
    return state
  end
end
if redis.call('LPOS', active_list, id) then
  return 'active'
end
local group = redis.pcall('HGET', base .. id, group_field)
if type(group) == 'string' and redis.call('ZSCORE', groups .. 'line:' .. group, id) then
  return 'waiting'
end
if redis.call('EXISTS', base .. id) == 1
  and (may_be_in(wait_list, id, 10000) or may_be_in(paused_list, id, 10000)) then
  return 'waiting'
end
return false
