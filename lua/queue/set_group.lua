-- queue/set_group.lua: say what holds for one group, and let it hold at once.
-- KEYS     1 base     "<prefix>:<queue>:"
--          2 groups   "<namespace>:groups:<base>"
-- ARGV     1 now      ms
--          2 group
--          3 changes  MessagePack [[setting, value or "" for the queue's own], ...]
-- RETURNS  nothing
-- COST     O(waiting) for a group that is paused or has too many jobs out of its line, else O(log n)
local group = ARGV[2]

-- Those that were let out and that nobody has taken stand in the line again, at the front.
local function recall()
  for _, id in ipairs(redis.call('HKEYS', group_key('ahead', group))) do
    if redis.call('LREM', wait_list, -1, id) > 0 or redis.call('LREM', paused_list, -1, id) > 0 then
      grouping().enter_line(id, group, number_of(fields_of(id, 'priority')[1]), true)
    end
  end
end

for _, change in ipairs(cmsgpack.unpack(ARGV[3])) do
  if change[2] == '' then
    redis.call('HDEL', group_key('settings', group), change[1])
  else
    redis.call('HSET', group_key('settings', group), change[1], change[2])
    redis.call('ZADD', groups .. 'known', 0, group)
  end
end
redis.call('ZREM', groups .. 'held', group) -- held for a limit that may be gone
local paused, most = grouping().limits(group)
local running = tonumber(redis.call('HGET', groups .. 'running', group) or nil) or 0
if paused or most and running > most then
  grouping().count_ahead(group)
  recall()
end
grouping().touch(group)
release_touched(tonumber(ARGV[1]))
flush_wait()
close_gate()
