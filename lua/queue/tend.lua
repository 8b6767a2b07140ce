-- queue/tend.lua: make good what stock workers did to jobs of groups: they know nothing of groups, and tell nobody.
-- May be called with any ids, any number of times.
-- KEYS     1 base    "<prefix>:<queue>:"
--          2 groups  "<namespace>:groups:<base>"
-- ARGV     1 now     ms
--          2 ids     MessagePack list, of whom the queue's events told
--          3 groups  MessagePack list, to be looked at as well
-- RETURNS  [1 if there are groups, when to look again or -1]
-- COST     O(ids + groups), O(1000) for an id that came into `wait` around its group
local now = tonumber(ARGV[1])

-- A stock worker has promoted or retried it: it stands in its line again, or counts if it runs.
local function bring_back(id, group, priority)
  if redis.call('ZSCORE', group_key('line', group), id) or redis.call('ZSCORE', delayed_set, id) then
    return
  elseif redis.call('EXISTS', lock_of(id)) == 1 then
    redis.call('ZADD', groups .. 'known', 0, group)
    grouping().begin_release(id, group)
  elseif redis.call('ZREM', prioritized_set, id) == 1
    or redis.call('LPOS', wait_list, id, 'MAXLEN', 1000) and redis.call('LREM', wait_list, 1, id) == 1 then
    grouping().enter_line(id, group, number_of(priority))
  end
end

for _, id in ipairs(cmsgpack.unpack(ARGV[2])) do
  local released = redis.call('HGET', groups .. 'released', id)
  local stored = redis.pcall('HMGET', base .. id, group_field, 'finishedOn', 'priority')
  local group = not stored.err and stored[1]
  if released and (group ~= released or stored[2]) then
    grouping().end_release(id)
  elseif released then
    grouping().touch(released)
  elseif group and not stored[2] then
    bring_back(id, group, stored[3])
  end
end
for _, group in ipairs(cmsgpack.unpack(ARGV[3])) do
  grouping().touch(group)
end
grouping().release_held(now)
release_touched(now)
flush_wait()
close_gate()
return { redis.call('EXISTS', groups .. 'known'), grouping().next_held() or -1 }
