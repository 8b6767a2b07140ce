-- queue/heartbeat.lua: renew a worker's lock on a job that it still holds, and write down what it tells of it.
-- KEYS     1 base      "<prefix>:<queue>:"
-- ARGV     1 id
--          2 token     the worker's
--          3 lease_ms  new length of the lock
--          4 progress  JSON, or empty
--          5 lines     MessagePack list for the job's log, 1000 at most
-- RETURNS  [why it is to stop, or empty], renewed; [], not the owner's any more: nothing was written
-- COST     O(lines)
local id, progress, lines = ARGV[1], ARGV[4], cmsgpack.unpack(ARGV[5])
local key, lock = base .. id, lock_of(id)
if redis.call('GET', lock) ~= ARGV[2] or redis.call('EXISTS', key) == 0 then
  return {}
end
redis.call('PEXPIRE', lock, ARGV[3])
redis.call('SREM', stalled_set, id)
if progress ~= '' then
  redis.call('HSET', key, 'progress', progress)
  emit('progress', 'jobId', id, 'data', progress)
end
if #lines > 0 then
  redis.call('RPUSH', key .. ':logs', unpack(lines))
  local keep = tonumber(options_of(redis.call('HGET', key, 'opts')).kl)
  if keep and keep > 0 then
    redis.call('LTRIM', key .. ':logs', -math.floor(keep), -1)
  end
end
if progress ~= '' then
  close_gate()
end
return { reason_to_stop(id) or '' }
