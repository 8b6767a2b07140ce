-- queue/parts/finish.lua: ends a job for good. Needs options.lua, create.lua, remove.lua and parent.lua.

-- The fields of a job that decide how it ends, in this order.
local ending_fields = { 'opts', 'atm', 'priority', 'stacktrace', 'parentKey', 'parent', 'deid' }

-- Which of the finished stay: the job's own option, else the default { count, age, limit }; count -1 keeps all.
local function keep_of(option, default)
  local kind = type(option)
  if kind == 'boolean' then
    return { count = option and 0 or -1 }
  elseif kind == 'number' then
    return { count = whole(option) or -1 }
  elseif kind == 'table' then
    return { count = whole(option.count) or -1, age = whole(option.age), limit = whole(option.limit) }
  end
  return { count = default[1], age = default[2], limit = default[3] }
end

local prunings = {} -- one per set and policy, done at the end

local function prune_later(set, keep)
  if keep.count > 0 or keep.age then
    prunings[table.concat({ set, keep.count, keep.age or '', keep.limit or '' }, '|')] = { set, keep }
  end
end

-- Those that ended in this batch, flat (score, id), until they are written: one command for each set.
local finished_now = { [completed_set] = {}, [failed_set] = {} }

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
  for _, pruning in pairs(prunings) do
    local set, keep = pruning[1], pruning[2]
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
  local extra = { 'deid', deduplication_id }
  for field, name in pairs({ pk = 'parentKey', pd = 'parent', rjk = 'rjk' }) do
    if stored[field] then
      extra[#extra + 1], extra[#extra + 2] = name, stored[field]
    end
  end
  create_job({
    id = id, name = stored.name or '', data = stored.data or '{}', options = stored.opts or '{}', timestamp = now,
    delay = number_of(options.delay), priority = number_of(options.priority), lifo = options.lifo == true,
  }, extra)
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

-- job: the ending_fields. ending: completes, text (value or reason), stack, prev (where it was, if not active).
-- keep_default: for completed and failed.
-- The caller has taken the id out of its state.
local function finish_job(id, job, ending, keep_default, now)
  local key, options = base .. id, options_of(job[1])
  local attempts_made = number_of(job[2]) + 1
  local parent_key, parent_json, deduplication_id = job[5], job[6], job[7]
  local set, keep
  if ending.completes then
    set, keep = completed_set, keep_of(options.removeOnComplete, keep_default[1])
  else
    set, keep = failed_set, keep_of(options.removeOnFail, keep_default[2])
  end
  if deduplication_id then
    release_deduplication(id, deduplication_id, now)
  end
  if parent_key then
    flush_finished() -- whether the parent has failed is asked of its set
    local tell = ending.completes and child_completed or child_failed
    pcall(tell, id, parent_key, parent_json, ending.text, now) -- as with detach_child
  end
  if keep.count == 0 then
    delete_job(id)
  else
    local members = finished_now[set]
    members[#members + 1], members[#members + 2] = texts[now], id
    if ending.completes then
      redis.call('HSET', key, 'returnvalue', ending.text, 'finishedOn', texts[now], 'atm', texts[attempts_made])
    else
      redis.call('HSET', key, 'failedReason', ending.text, 'finishedOn', texts[now], 'atm', texts[attempts_made],
        'stacktrace', stacks_with(job[4], ending.stack, options.stackTraceLimit))
      redis.call('HDEL', key, 'defa', 'onetake-cancelled')
    end
    prune_later(set, keep)
  end
  if ending.completes then
    emit('completed', 'jobId', id, 'returnvalue', ending.text, 'prev', 'active')
  else
    emit('failed', 'jobId', id, 'failedReason', ending.text, 'prev', ending.prev or 'active')
    if attempts_made >= number_of(options.attempts) then
      emit('retries-exhausted', 'jobId', id, 'attemptsMade', attempts_made)
    end
  end
end
