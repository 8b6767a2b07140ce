-- queue/add.lua: add jobs, in order.
-- KEYS     1 base   "<prefix>:<queue>:"
-- ARGV     1 now    ms
--          2 jobs   MessagePack [[id or nil, name, data, options, timestamp, delay, priority, lifo,
--                   [deduplication id, ttl or nil, extend, replace, keep last, reschedule] or nil, group or nil], ...]
-- RETURNS  [counter before, [0 added, by its own id or else the counter and its place | [id in effect, 1 a job of that id
--          exists | 2 deduplicated], ...]]
-- COST     O(1) a job, O(log n) for delayed and prioritized ones
local jobs = cmsgpack.unpack(ARGV[2])

-- The next job of an id whose owner runs now.
local function store_next(key, id, job)
  redis.call('DEL', key)
  redis.call('HSET', key, 'jid', id, 'name', job[2], 'data', job[3], 'opts', job[4])
end

-- The id of the job that stands for this one, or nil: then it owns the deduplication id.
local function deduplicate(id, job)
  local deduplication_id, ttl, extend, replace, keep_last, reschedule = unpack(job[9], 1, 6)
  local key, next_key = base .. 'de:' .. deduplication_id, base .. 'dn:' .. deduplication_id
  local function own()
    if ttl and not keep_last then
      redis.call('SET', key, id, 'PX', ttl)
    else
      redis.call('SET', key, id)
    end
  end
  local owner = redis.call('MGET', key)[1] -- where something else stands, GET would stop half way
  if not owner then
    own()
    return nil
  end
  if redis.call('PTTL', key) == -1 and redis.call('EXISTS', base .. owner) == 0 then
    redis.call('DEL', next_key) -- the owner was deleted by somebody who did not know
    own()
    return nil
  end
  local owner_runs = (keep_last or replace) and redis.call('LPOS', active_list, owner) ~= false
  if replace and redis.call('ZREM', delayed_set, owner) == 1 then
    delete_job(owner)
    redis.call('DEL', next_key)
    emit('removed', 'jobId', owner, 'prev', 'delayed')
    emit('deduplicated', 'jobId', id, 'deduplicationId', deduplication_id, 'deduplicatedJobId', owner)
    if ttl and not extend then
      redis.call('SET', key, id, 'KEEPTTL')
    else
      own()
    end
    due_changed = true
    return nil
  end
  if keep_last and owner_runs then
    store_next(next_key, id, job)
    redis.call('PERSIST', key)
  elseif replace then
    return owner -- silently, as BullMQ does
  elseif ttl and extend and not keep_last then
    redis.call('PEXPIRE', key, ttl)
  end
  emit('deduplicated', 'jobId', owner, 'deduplicationId', deduplication_id, 'deduplicatedJobId', id)
  if reschedule and is_job(owner) and redis.call('ZREM', delayed_set, owner) == 1 then
    local due = job[5] + job[6]
    redis.call('HSET', base .. owner, 'delay', texts[job[6]])
    push_delayed(owner, due)
    emit('delayed', 'jobId', owner, 'delay', texts[due])
  end
  return owner
end

-- The counter moves for every add, also for one with an id of its own: Node producers count on it.
local last = redis.call('INCRBY', id_counter, #jobs)
local outcomes = {}
for i, job in ipairs(jobs) do
  local id = job[1] or string.format('%.0f', last - #jobs + i)
  if job[1] and redis.call('EXISTS', base .. id) == 1 then
    emit('duplicated', 'jobId', id)
    outcomes[i] = { id, 1 }
  else
    local owner = job[9] and deduplicate(id, job)
    if owner then
      outcomes[i] = { owner, 2 }
    else
      create_job(id, job[2], job[3], job[4], job[5], job[6], job[7], job[8], job[10],
        job[9] and 'deid' or job[10] and group_field, job[9] and job[9][1] or job[10])
      outcomes[i] = 0
    end
  end
end
release_touched(tonumber(ARGV[1]))
flush_wait()
close_gate()
return { last - #jobs, outcomes }
