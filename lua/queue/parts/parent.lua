-- queue/parts/parent.lua: what the end or removal of a child means for its parent. Needs enqueue.lua.
-- The parent may be in another queue of the same hash slot: its keys are spelled from its own base.

local function tell_queue(queue, ...)
  redis.call('XADD', queue .. 'events', '*', 'event', ...)
end

-- Runs the parent, which the caller has taken out of its state.
local function start_parent(queue, id, now)
  local stored = redis.call('HMGET', queue .. id, 'delay', 'priority', group_field)
  if stored[3] then
    -- Whoever takes it next sees whether its group has a place for it. The group was forgotten if nothing else was in it.
    redis.call('ZADD', string.sub(groups, 1, #groups - #base) .. queue .. 'known', 0, stored[3])
  end
  local delay, priority = number_of(stored[1]), number_of(stored[2])
  if delay > 0 then
    add_delayed(queue, id, now + delay)
    tell_queue(queue, 'delayed', 'jobId', id, 'delay', now + delay)
    local first = redis.call('ZRANGE', queue .. 'delayed', 0, 0, 'WITHSCORES')
    redis.call('ZADD', queue .. 'marker', math.floor(tonumber(first[2]) / 4096), '1')
    return
  end
  if priority > 0 then
    add_prioritized(queue, id, priority)
  else
    redis.call('RPUSH', queue .. 'wait', id)
  end
  tell_queue(queue, 'waiting', 'jobId', id, 'prev', 'waiting-children')
  local settings = redis.call('HMGET', queue .. 'meta', 'paused', 'concurrency')
  local limit = whole(settings[2])
  if not settings[1] and not (limit and redis.call('LLEN', queue .. 'active') >= limit) then
    redis.call('ZADD', queue .. 'marker', 0, '0')
  end
end

-- The base of the parent's queue, the parent's id and what the parent said about failing children. The parent's own
-- record says it exactly; its key does not where an id holds a colon.
local function parent_of(parent_key, parent_json)
  local readable, parent = pcall(cjson.decode, parent_json or '')
  if readable and type(parent) == 'table' and type(parent.queueKey) == 'string' and type(parent.id) == 'string' then
    return parent.queueKey .. ':', parent.id, parent
  end
  local queue, id = string.match(parent_key, '^(.*:)([^:]*)$')
  return queue, id, {}
end

local function release_parent(queue, id, now)
  if redis.call('ZREM', queue .. 'waiting-children', id) == 1 then
    start_parent(queue, id, now)
  end
end

local function release_if_last(parent_key, queue, id, now)
  if redis.call('EXISTS', parent_key .. ':dependencies') == 0 then
    release_parent(queue, id, now)
  end
end

-- A child that is deleted before its end, or failed and is not kept, no longer holds its parent up.
local function detach(id, parent_key, parent_json, now)
  if parent_key and redis.call('SREM', parent_key .. ':dependencies', base .. id) == 1 then
    local queue, parent_id = parent_of(parent_key, parent_json)
    if queue then
      release_if_last(parent_key, queue, parent_id, now)
    end
  end
end

-- A parent's key comes from the child's hash, and anything may stand under it: that must not keep a child from its end.
local function detach_child(...)
  pcall(detach, ...)
end

local function child_completed(id, parent_key, parent_json, value, now)
  local queue, parent_id = parent_of(parent_key, parent_json)
  if queue and redis.call('SREM', parent_key .. ':dependencies', base .. id) == 1 then
    redis.call('HSET', parent_key .. ':processed', base .. id, value)
    release_if_last(parent_key, queue, parent_id, now)
  end
end

-- A parent that said nothing about failures waits for ever, until somebody retries or removes the child: so BullMQ. (One that
-- is not kept is removed at once: see fail_job.)
local function child_failed(id, parent_key, parent_json, reason, now)
  local queue, parent_id, said = parent_of(parent_key, parent_json)
  if not queue or not (said.fpof or said.cpof or said.idof or said.rdof) then
    return
  end
  local child = base .. id
  if redis.call('SREM', parent_key .. ':dependencies', child) == 0 then
    return
  end
  if said.fpof then
    redis.call('ZADD', parent_key .. ':unsuccessful', now, child)
    local why = 'child ' .. child .. ' failed'
    if redis.call('ZREM', queue .. 'waiting-children', parent_id) == 1
      or redis.call('ZREM', queue .. 'delayed', parent_id) == 1 then
      redis.call('HSET', parent_key, 'defa', why, 'delay', 0)
      start_parent(queue, parent_id, now)
    elseif redis.call('EXISTS', parent_key) == 1 and not redis.call('ZSCORE', queue .. 'failed', parent_id) then
      redis.call('HSET', parent_key, 'defa', why)
    end
  elseif said.cpof then
    redis.call('HSET', parent_key .. ':failed', child, reason)
    release_parent(queue, parent_id, now)
  else
    release_if_last(parent_key, queue, parent_id, now)
    if said.idof then
      redis.call('HSET', parent_key .. ':failed', child, reason)
    end
  end
end
