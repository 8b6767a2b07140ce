-- queue/add_flow.lua: add a tree of jobs over several queues, all of it or nothing.
-- KEYS     the bases "<prefix>:<queue>:" of the queues, each once: in a cluster they must share a slot
-- ARGV     1 now   ms
--          2 jobs  MessagePack, parents before their children, the root first:
--                  [[queue by its place in KEYS, id, name, data, options, timestamp, delay, priority, lifo, has children,
--                   parent by its place in this list or 0, what the child's hash says of it (JSON)], ...]
-- RETURNS  [0 added, 0] | [1 the root is there already: nothing was changed, 0]
--          | [2 a job with children is there already, its place] | [3 a job has another parent, its place]
-- COST     O(log n) a job
local now, jobs = tonumber(ARGV[1]), cmsgpack.unpack(ARGV[2])

local function key_of(job)
  return KEYS[job[1]] .. job[2]
end

-- A job that is there already becomes a child as it is, also one that has ended; so with BullMQ.
local is_there = {}
for i, job in ipairs(jobs) do
  if redis.call('EXISTS', key_of(job)) == 1 then
    if i == 1 then
      tell_queue(KEYS[job[1]], 'duplicated', 'jobId', job[2])
      return { 1, 0 }
    elseif job[10] then
      return { 2, i }
    end
    local parent = redis.call('HGET', key_of(job), 'parentKey')
    if parent and parent ~= key_of(jobs[job[11]]) and redis.call('EXISTS', parent) == 1 then
      return { 3, i }
    end
    is_there[i] = true
  end
end

local waits, is_due = {}, {} -- by queue: something waits now, something is delayed

local function enqueue(queue, id, job)
  local timestamp, delay, priority = job[6], job[7], job[8]
  if job[10] then
    redis.call('ZADD', queue .. 'waiting-children', texts[timestamp], id)
    tell_queue(queue, 'waiting-children', 'jobId', id)
  elseif delay > 0 then
    add_delayed(queue, id, timestamp + delay)
    tell_queue(queue, 'delayed', 'jobId', id, 'delay', texts[timestamp + delay])
    is_due[queue] = true
  else
    if priority > 0 then
      add_prioritized(queue, id, priority)
    else
      redis.call(job[9] and 'RPUSH' or 'LPUSH', queue .. 'wait', id)
    end
    tell_queue(queue, 'waiting', 'jobId', id)
    waits[queue] = true
  end
end

local function join_parent(parent_key, queue, id, exists)
  local value = exists and redis.call('ZSCORE', queue .. 'completed', id)
    and (redis.call('HGET', queue .. id, 'returnvalue') or 'null')
  if value then
    redis.call('HSET', parent_key .. ':processed', queue .. id, value)
  else
    redis.call('SADD', parent_key .. ':dependencies', queue .. id)
  end
end

for i, job in ipairs(jobs) do
  local queue, id, key = KEYS[job[1]], job[2], key_of(job)
  local parent_key = job[11] > 0 and key_of(jobs[job[11]])
  redis.call('INCR', queue .. 'id') -- it moves for every job, also for one with an id of its own
  if is_there[i] then
    tell_queue(queue, 'duplicated', 'jobId', id)
  else
    redis.call('HSET', key, 'name', job[3], 'data', job[4], 'opts', job[5], 'timestamp', texts[job[6]],
      'delay', texts[job[7]], 'priority', texts[job[8]])
    tell_queue(queue, 'added', 'jobId', id, 'name', job[3])
    enqueue(queue, id, job)
  end
  if parent_key then
    redis.call('HSET', key, 'parentKey', parent_key, 'parent', job[12])
    join_parent(parent_key, queue, id, is_there[i])
  end
end
for _, job in ipairs(jobs) do
  if job[10] then
    release_if_last(key_of(job), KEYS[job[1]], job[2], now) -- all of its children had completed before
  end
end

for _, queue in ipairs(KEYS) do
  local settings = redis.call('HMGET', queue .. 'meta', 'paused', 'concurrency', 'opts.maxLenEvents')
  local limit, max = whole(settings[2]), whole(settings[3])
  if waits[queue] and not settings[1] and not (limit and redis.call('LLEN', queue .. 'active') >= limit) then
    redis.call('ZADD', queue .. 'marker', 0, '0')
  end
  if is_due[queue] then
    local first = redis.call('ZRANGE', queue .. 'delayed', 0, 0, 'WITHSCORES')
    redis.call('ZADD', queue .. 'marker', math.floor(tonumber(first[2]) / 4096), '1')
  end
  if not max or max < 0 then
    max = 10000
    redis.call('HSET', queue .. 'meta', 'opts.maxLenEvents', max)
  end
  redis.call('XTRIM', queue .. 'events', 'MAXLEN', '~', max)
end
return { 0, 0 }
