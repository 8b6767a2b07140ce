-- queue/parts/finish.lua: ends a job for good. Needs options.lua, create.lua, remove.lua and parent.lua.

-- The fields of a job that decide how it ends, in this order.
local ending_fields = { 'opts', 'atm', 'deid', 'parentKey', 'parent', 'defa', 'priority', 'stacktrace' }

-- Which of the finished stay: { count, age, limit }; count -1 keeps all. Jobs with the same wish share one table, so that it
-- is applied once.
local policies = {}

local function policy_of(count, age, limit)
  local text = table.concat({ count, age or '', limit or '' }, '|')
  policies[text] = policies[text] or { count = count, age = age, limit = limit }
  return policies[text]
end

-- The job's own `option`, else the default.
local function keep_of(job, option, default)
  local wish = options_of(job[1])[option]
  local kind = type(wish)
  if kind == 'boolean' then
    return policy_of(wish and 0 or -1)
  elseif kind == 'number' then
    return policy_of(whole(wish) or -1)
  elseif kind == 'table' then
    local age = tonumber(wish.age) -- in seconds, and parts of them
    return policy_of(whole(wish.count) or -1, age and math.abs(age) < 9e12 and age or nil, whole(wish.limit))
  end
  return policy_of(default[1], default[2], default[3])
end

-- Those that ended in this batch, flat (score, id), until they are written: one command for each set. And whose policies
-- are to be applied to it at the end.
local finished_now = { [completed_set] = {}, [failed_set] = {} }
local prunings = { [completed_set] = {}, [failed_set] = {} }

local function enlist(set, id, keep, now)
  local members = finished_now[set]
  members[#members + 1], members[#members + 2] = texts[now], id
  if keep.count > 0 or keep.age then
    prunings[set][keep] = true
  end
end

local function flush_finished()
  for set, members in pairs(finished_now) do
    if #members > 0 then
      redis.call('ZADD', set, unpack(members))
      finished_now[set] = {}
    end
  end
end

local function remove_finished(set, ids, now)
  if #ids == 0 then
    return
  end
  -- A child that completed has left its parent's dependencies; one that failed may still be there.
  if set == failed_set then
    for _, id in ipairs(ids) do
      local parent = fields_of(id, 'parentKey', 'parent')
      detach_child(id, parent[1], parent[2], now)
    end
  end
  delete_jobs(ids)
  redis.call('ZREM', set, unpack(ids))
end

-- At most 1000 by age and 1000 by number for each policy; the next end goes on.
local function prune_finished(now)
  flush_finished()
  for set, policies_of_set in pairs(prunings) do
    for keep in pairs(policies_of_set) do
      if keep.age then
        local limit = math.max(0, math.min(keep.limit or 1000, 1000))
        local before = now - keep.age * 1000
        remove_finished(set, redis.call('ZREVRANGEBYSCORE', set, before, '-inf', 'LIMIT', 0, limit), now)
      end
      if keep.count > 0 then
        remove_finished(set, redis.call('ZREVRANGE', set, keep.count, keep.count + 999), now)
      end
    end
  end
end

-- The stacks of all failed attempts, oldest first, with `stack` as the newest; JSON text.
local function stacks_with(stored, stack, limit)
  local readable, stacks = pcall(cjson.decode, stored or '[]')
  if not readable or type(stacks) ~= 'table' or (#stacks == 0 and next(stacks) ~= nil) then
    stacks = {}
  end
  if stack then
    stacks[#stacks + 1] = stack
  end
  local most = math.max(0, whole(limit) or 100)
  while #stacks > most do
    table.remove(stacks, 1)
  end
  return #stacks == 0 and '[]' or cjson.encode(stacks)
end

-- keepLastIfActive: the last add that came while the owner ran becomes the next job.
local function add_stored_next(deduplication_id, now)
  local key = base .. 'dn:' .. deduplication_id
  local flat = redis.pcall('HGETALL', key)
  if flat.err or #flat == 0 then
    return
  end
  local stored = {}
  for i = 1, #flat, 2 do
    stored[flat[i]] = flat[i + 1]
  end
  redis.call('DEL', key)
  local counted = redis.call('INCR', id_counter)
  local id = stored.jid or string.format('%.0f', counted)
  local options = options_of(stored.opts)
  local deduplication = type(options.de) == 'table' and options.de or {}
  local ttl = whole(deduplication.ttl)
  if ttl and ttl > 0 and not deduplication.keepLastIfActive then
    redis.call('SET', base .. 'de:' .. deduplication_id, id, 'PX', ttl)
  else
    redis.call('SET', base .. 'de:' .. deduplication_id, id)
  end
  create_job(id, stored.name or '', stored.data or '{}', stored.opts or '{}', now, number_of(options.delay),
    number_of(options.priority), options.lifo == true, nil, 'deid', deduplication_id)
  for field, name in pairs({ pk = 'parentKey', pd = 'parent', rjk = 'rjk' }) do
    if stored[field] then
      redis.call('HSET', base .. id, name, stored[field])
    end
  end
  if stored.pdk then
    redis.call('SADD', stored.pdk, base .. id)
  end
end

-- The owner's end frees its deduplication id, unless that runs for a fixed time.
local function release_deduplication(id, deduplication_id, now)
  local key = base .. 'de:' .. deduplication_id
  if redis.call('MGET', key)[1] == id and redis.call('PTTL', key) <= 0 then
    redis.call('DEL', key)
    add_stored_next(deduplication_id, now)
  end
end

-- What a job's end means for others: its deduplication id is free, its parent is told by `tell`.
local function leave_family(id, job, tell, text, now)
  if job[3] then
    release_deduplication(id, job[3], now)
  end
  if job[4] then
    flush_finished() -- whether the parent has failed is asked of its set
    pcall(tell, id, job[4], job[5], text, now) -- as with detach_child
  end
end

-- job: its ending_fields. keep_default: for completed and failed. The caller has taken the id out of its state.
local function complete_job(id, job, value, keep_default, now)
  local keep = keep_of(job, 'removeOnComplete', keep_default[1])
  leave_family(id, job, child_completed, value, now)
  if keep.count == 0 then
    delete_job(id)
  else
    enlist(completed_set, id, keep, now)
    redis.call('HSET', base .. id, 'returnvalue', value, 'finishedOn', texts[now], 'atm', texts[number_of(job[2]) + 1])
    if job[6] then -- it was cancelled too late; the mark would fail it at once if somebody retried it
      redis.call('HDEL', base .. id, 'defa', 'onetake-cancelled')
    end
  end
  emit('completed', 'jobId', id, 'returnvalue', value, 'prev', 'active')
end

-- stack: of this failure, or nil. prev: where it was, if not active.
local function fail_job(id, job, reason, stack, prev, keep_default, now)
  local key, options, attempts_made = base .. id, options_of(job[1]), number_of(job[2]) + 1
  local keep = keep_of(job, 'removeOnFail', keep_default[2])
  leave_family(id, job, child_failed, reason, now)
  if keep.count == 0 then
    delete_job(id)
    detach_child(id, job[4], job[5], now) -- nobody could retry or remove it any more
  else
    enlist(failed_set, id, keep, now)
    redis.call('HSET', key, 'failedReason', reason, 'finishedOn', texts[now], 'atm', texts[attempts_made],
      'stacktrace', stacks_with(job[8], stack, options.stackTraceLimit))
    redis.call('HDEL', key, 'defa', 'onetake-cancelled')
  end
  emit('failed', 'jobId', id, 'failedReason', reason, 'prev', prev or 'active')
  if attempts_made >= (tonumber(options.attempts) or 0) then
    emit('retries-exhausted', 'jobId', id, 'attemptsMade', attempts_made)
  end
end
