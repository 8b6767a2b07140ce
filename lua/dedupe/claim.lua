-- dedupe/claim.lua: look at dedupe keys and join them, before SQL decides.
-- KEYS     for each ask:
--            flight       hash    what is known of the key (fields: src/dedupe/mod.rs)
--            subscribers  set     who waits for the open run, readable
-- ARGV     1 claim_ms     how long a claim without a run stands
--          then for each ask:
--            now_ms
--            max_age_ms   the result may be this old; -1: any age
--            refresh      1: a fresh result will not do
--            subscriber   to join with; empty: look only
-- RETURNS  for each ask: {'ready', flight, generation, result, made_at_ms} | {'subscribed'} | {'queued'}
-- COST     O(1) for each ask
local claim_ms = ARGV[1]

local function claim(flight, subscribers, now_ms, max_age_ms, refresh, subscriber)
  local known = redis.call('HMGET', flight, 'state', 'flight', 'result', 'result_generation', 'made_at_ms')
  local state, id, result, result_generation, made_at_ms = known[1], known[2], known[3], known[4], tonumber(known[5] or '')

  if result and made_at_ms and not refresh and (max_age_ms < 0 or now_ms - made_at_ms <= max_age_ms) then
    return {'ready', id, result_generation, result, known[5]}
  end
  if subscriber ~= '' then
    redis.call('SADD', subscribers, subscriber)
  end
  if state == 'pending' or state == 'running' or state == 'claimed' then
    return {'subscribed'}
  end
  -- A claim that SQL never confirms (its server died) goes away by itself; a standing result outlives it.
  redis.call('HSET', flight, 'state', 'claimed')
  if not result then
    redis.call('PEXPIRE', flight, claim_ms)
    redis.call('PEXPIRE', subscribers, claim_ms)
  end
  return {'queued'}
end

local answers = {}
for ask = 1, #KEYS / 2 do
  local first = 4 * ask - 2
  answers[ask] = claim(KEYS[2 * ask - 1], KEYS[2 * ask], tonumber(ARGV[first]), tonumber(ARGV[first + 1]),
    ARGV[first + 2] == '1', ARGV[first + 3])
end
return answers
