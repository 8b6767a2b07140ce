-- lock/leave.lua: leave the line of a lock, and wake who may pass now.
-- KEYS     1 line      sorted set  who stands in line, by number
--          2 alive     sorted set  until when each of them counts, in ms
-- ARGV     1 id        of who leaves
--          2 width     how many at the head of the line may pass
--          3 channel   on which waiters are woken
-- RETURNS  nothing
-- COST     O(log of the line)
local line, alive = KEYS[1], KEYS[2]
local id, width, channel = ARGV[1], tonumber(ARGV[2]), ARGV[3]

redis.call('ZREM', alive, id)
if redis.call('ZREM', line, id) == 0 then
  return
end
local next_in = redis.call('ZRANGE', line, width - 1, width - 1)[1]
if next_in then
  redis.call('PUBLISH', channel, next_in)
end
