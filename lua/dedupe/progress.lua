-- dedupe/progress.lua: note how far the open run is.
-- KEYS     1 flight      hash  what is known of the key
-- ARGV     1 id          of the flight in SQL
--          2 generation  of the run
--          3 progress    JSON
-- RETURNS  1 noted, 0 another run is open now
-- COST     O(1)
local flight = KEYS[1]
local id, generation, progress = ARGV[1], ARGV[2], ARGV[3]
local known = redis.call('HMGET', flight, 'flight', 'generation')
if known[1] ~= id or known[2] ~= generation then
  return 0
end
redis.call('HSET', flight, 'progress', progress, 'state', 'running')
return 1
