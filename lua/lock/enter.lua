-- lock/enter.lua: stand in line for a lock, or look how far the line has moved.
-- KEYS     1 line      sorted set  who stands in line, by number
--          2 alive     sorted set  until when each of them counts, in ms
-- ARGV     1 id        of who asks
--          2 width     how many at the head of the line may pass
--          3 joins     1: stand in line if need be; 0: only if nobody does
--          4 wait_ms   how long a place behind is kept unless it is looked at again
--          5 inside_ms the same for a place at the head
-- RETURNS  the place in line: 0 is the head; -1 somebody stands there, and the caller does not join
-- COST     O(log of the line), and at most 100 that left without a word are removed
local line, alive = KEYS[1], KEYS[2]
local id, width, joins = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1'
local wait_ms, inside_ms = tonumber(ARGV[4]), tonumber(ARGV[5])

-- Redis's own clock: those of the servers differ.
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)

for _, gone in ipairs(redis.call('ZRANGEBYSCORE', alive, '-inf', now_ms, 'LIMIT', 0, 100)) do
  redis.call('ZREM', line, gone)
  redis.call('ZREM', alive, gone)
end

local place = redis.call('ZRANK', line, id)
if not place then
  if not joins and redis.call('ZCARD', line) > 0 then
    return -1
  end
  local last = redis.call('ZREVRANGE', line, 0, 0, 'WITHSCORES')[2]
  redis.call('ZADD', line, (tonumber(last) or 0) + 1, id)
  place = redis.call('ZRANK', line, id)
end

local kept_ms = place < width and inside_ms or wait_ms
redis.call('ZADD', alive, string.format('%.0f', now_ms + kept_ms), id)
local longest_ms = math.max(wait_ms, inside_ms) + 1000
redis.call('PEXPIRE', line, longest_ms)
redis.call('PEXPIRE', alive, longest_ms)
return place
