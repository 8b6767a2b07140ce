-- dedupe/mark.lua: write down what SQL decided about a flight.
-- KEYS     1 flight         hash  what is known of the key
--          2 subscribers    set   who waits for the open run
-- ARGV     1 id             of the flight in SQL
--          2 generation     of its current run; an older one than the key knows changes nothing
--          3 state          of that run
--          4 leader         id of the job that makes it, or empty
--          5 queue          its queue
--          6 result         JSON, or empty if there is no good result
--          7 result_generation
--          8 made_at_ms     of the result
--          9 keep_ms        how long the key is kept when no run is open
--         10 scope, 11 key  in full: the key's own name may hold only a digest
-- RETURNS  1 written, 0 the key knows a later generation
-- COST     O(subscribers) when a run has ended, else O(1)
local flight, subscribers = KEYS[1], KEYS[2]
local id, generation, state, leader, queue = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local result, result_generation, made_at_ms, keep_ms = ARGV[6], ARGV[7], ARGV[8], ARGV[9]
local scope, key = ARGV[10], ARGV[11]

local known = redis.call('HMGET', flight, 'flight', 'generation', 'state', 'leader')
local is_same_flight = known[1] == id
if is_same_flight and tonumber(known[2] or '0') > tonumber(generation) then
  return 0
end
local is_open = state == 'pending' or state == 'running'
local was_over = known[3] == 'succeeded' or known[3] == 'failed' or known[3] == 'cancelled'
if is_open and is_same_flight and known[2] == generation and was_over then
  return 0
end

if not is_open then
  redis.call('DEL', subscribers)
  if result == '' then
    redis.call('DEL', flight)
    return 1
  end
end
redis.call('HSET', flight, 'flight', id, 'generation', generation, 'state', state, 'queue', queue, 'scope', scope, 'key', key)
if leader ~= '' then
  redis.call('HSET', flight, 'leader', leader)
end
if result ~= '' then
  redis.call('HSET', flight, 'result', result, 'result_generation', result_generation, 'made_at_ms', made_at_ms)
else
  redis.call('HDEL', flight, 'result', 'result_generation', 'made_at_ms')
end
if is_open then
  redis.call('PERSIST', flight)
  redis.call('PERSIST', subscribers)
else
  redis.call('HDEL', flight, 'progress', 'leader')
  redis.call('PEXPIRE', flight, keep_ms)
end
return 1
