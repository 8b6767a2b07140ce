-- queue/promote_all.lua: let delayed jobs wait, those that are due first. Unlike BullMQ's, they keep their priorities.
-- KEYS     1 base  "<prefix>:<queue>:"
-- ARGV     1 most  at most so many
-- RETURNS  [how many wait now, 0 to go on | -1 nothing is left]
-- COST     O(most * log n)
local most = tonumber(ARGV[1])
local ids = redis.call('ZRANGE', delayed_set, 0, most - 1)
if #ids == 0 then
  return { 0, -1 }
end
redis.call('ZREM', delayed_set, unpack(ids))
local promoted = 0
for _, id in ipairs(ids) do
  if is_job(id) then
    promote_job(id, unpack(redis.call('HMGET', base .. id, 'priority', group_field), 1, 2))
    promoted = promoted + 1
  end
end
release_touched()
flush_wait()
close_gate()
return { promoted, #ids < most and -1 or 0 }
