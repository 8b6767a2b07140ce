-- dedupe/mark.lua: write down what SQL decided about flights.
-- KEYS     for each flight:
--            flight       hash  what is known of the key
--            subscribers  set   who waits for the open run
-- ARGV     for each flight:
--            1 id             of the flight in SQL
--            2 generation     of its current run; an older one than the key knows changes nothing
--            3 state          of that run
--            4 leader         id of the job that makes it, or empty
--            5 queue          its queue
--            6 result         JSON, or empty if there is no good result
--            7 result_generation
--            8 made_at_ms     of the result
--            9 keep_ms        how long the key is kept when no run is open
--            10 scope, 11 key  in full: the key's own name may hold only a digest
-- RETURNS  nothing
-- COST     for each flight: O(subscribers) when a run has ended, else O(1)
local FIELDS = 11

local function mark(flight, subscribers, first)
  local id, generation, state, leader, queue = ARGV[first], ARGV[first + 1], ARGV[first + 2], ARGV[first + 3], ARGV[first + 4]
  local result, result_generation, made_at_ms, keep_ms = ARGV[first + 5], ARGV[first + 6], ARGV[first + 7], ARGV[first + 8]
  local scope, key = ARGV[first + 9], ARGV[first + 10]

  local known = redis.call('HMGET', flight, 'flight', 'generation', 'state', 'made_at_ms')
  local is_same_flight = known[1] == id
  if is_same_flight and tonumber(known[2] or '0') > tonumber(generation) then
    return
  end
  local is_open = state == 'pending' or state == 'running'
  local was_over = known[3] == 'succeeded' or known[3] == 'failed' or known[3] == 'cancelled'
  if is_open and is_same_flight and known[2] == generation and was_over then
    return
  end

  if not is_open then
    redis.call('DEL', subscribers)
    if result == '' then
      redis.call('DEL', flight)
      return
    end
  end
  local facts = { 'flight', id, 'generation', generation, 'state', state, 'queue', queue, 'scope', scope, 'key', key }
  if leader ~= '' then
    facts[13], facts[14] = 'leader', leader
  end
  redis.call('HSET', flight, unpack(facts))
  if result ~= '' then
    redis.call('HSET', flight, 'result', result, 'result_generation', result_generation, 'made_at_ms', made_at_ms)
  elseif known[4] then
    redis.call('HDEL', flight, 'result', 'result_generation', 'made_at_ms')
  end
  if is_open then
    redis.call('PERSIST', flight)
    redis.call('PERSIST', subscribers)
  else
    redis.call('HDEL', flight, 'progress', 'leader')
    redis.call('PEXPIRE', flight, keep_ms)
  end
end

for place = 1, #KEYS / 2 do
  mark(KEYS[2 * place - 1], KEYS[2 * place], FIELDS * (place - 1) + 1)
end
