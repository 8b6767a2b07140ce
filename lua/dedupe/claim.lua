-- dedupe/claim.lua: look at a dedupe key and join it, before SQL decides.
-- KEYS     1 flight       hash    what is known of the key (fields: src/dedupe/mod.rs)
--          2 subscribers  set     who waits for the open run, readable
-- ARGV     1 now_ms
--          2 max_age_ms   the result may be this old; -1: any age
--          3 refresh      1: a fresh result will not do
--          4 subscriber   to join with; empty: look only
--          5 claim_ms     how long a claim without a run stands
-- RETURNS  {'ready', flight, generation, result, made_at_ms} | {'subscribed', flight, generation} | {'queued'}
-- COST     O(1)
local flight, subscribers = KEYS[1], KEYS[2]
local now_ms, max_age_ms, refresh = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1'
local subscriber, claim_ms = ARGV[4], ARGV[5]

local known = redis.call('HMGET', flight, 'state', 'flight', 'generation', 'result', 'result_generation', 'made_at_ms')
local state, id, generation, result, result_generation, made_at_ms =
  known[1], known[2], known[3], known[4], known[5], tonumber(known[6] or '')

if result and made_at_ms and not refresh and (max_age_ms < 0 or now_ms - made_at_ms <= max_age_ms) then
  return {'ready', id, result_generation, result, tostring(made_at_ms)}
end
if subscriber ~= '' then
  redis.call('SADD', subscribers, subscriber)
end
if state == 'pending' or state == 'running' then
  return {'subscribed', id, generation}
end
if state == 'claimed' then
  return {'subscribed', '', ''}
end
-- A claim that SQL never confirms (its server died) goes away by itself; a standing result outlives it.
redis.call('HSET', flight, 'state', 'claimed')
if not result then
  redis.call('PEXPIRE', flight, claim_ms)
  redis.call('PEXPIRE', subscribers, claim_ms)
end
return {'queued'}
