-- queue/recover_stalled.lua: put jobs of silent workers back to the front.
-- A job without a lock that was active at the last scan, too, is recovered; so it takes two scans.
-- KEYS     1 base         "<prefix>:<queue>:"
-- ARGV     1 now          ms
--          2 interval_ms  no scan by anybody for so long after this one
--          3 max_stalled  a job recovered more often is marked to be failed by its next taker
-- RETURNS  the ids put back
-- COST     O(active)
local now, max_stalled = tonumber(ARGV[1]), tonumber(ARGV[3])
if not redis.call('SET', base .. 'stalled-check', now, 'PX', ARGV[2], 'NX') then
  return {}
end

-- A scheduler's run goes on for ever: to fail it would end the schedule.
local function is_scheduled(id)
  local scheduler = redis.call('HGET', base .. id, 'rjk')
  return scheduler and (redis.call('EXISTS', base .. 'repeat:' .. scheduler) == 1
    or redis.call('ZSCORE', base .. 'repeat', scheduler) ~= false)
end

local recovered = {}
for _, id in ipairs(redis.call('SMEMBERS', stalled_set)) do
  if redis.call('EXISTS', lock_of(id)) == 0 and redis.call('LREM', active_list, -1, id) > 0
    and is_job(id) then
    local times = number_of(redis.call('HGET', base .. id, 'stc')) + 1
    redis.call('HSET', base .. id, 'stc', texts[times])
    if times > max_stalled and not is_scheduled(id) then
      redis.call('HSET', base .. id, 'defa', 'job stalled more than allowable limit')
    end
    push_front(id, 0) -- prioritized jobs, too: BullMQ lets them jump the queue
    emit('waiting', 'jobId', id, 'prev', 'active')
    emit('stalled', 'jobId', id)
    recovered[#recovered + 1] = id
  end
end
redis.call('DEL', stalled_set)
local active = redis.call('LRANGE', active_list, 0, -1)
for first = 1, #active, 5000 do
  redis.call('SADD', stalled_set, unpack(active, first, math.min(first + 4999, #active)))
end
flush_wait()
events_sent = true -- who only ever scans keeps the stream short as well
close_gate()
return recovered
