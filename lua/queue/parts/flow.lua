-- queue/parts/flow.lua: adds jobs that wait for each other, over several queues of one hash slot. Needs enqueue.lua and
-- parent.lua.
-- queues: bases. jobs: parents before their children, each of them [queue by its place in `queues`, id, name, data, options,
-- timestamp, delay, priority, lifo, has children, parent by its place in the list or 0, what the child's hash says of it
-- (JSON)]. over: the id of a job of this queue that becomes the parent of those that have none in the list; or nil.

-- What forbids that, and which job of the list; 0 if nothing does: then what is there of it already, by place. A job that
-- is there becomes a child as it is, also one that has ended ('adopted'); so with BullMQ. One that is a child of `over`
-- already has counted for it ('kept'), and what hangs on it was added with it ('below').
local function look_at_flow(queues, jobs, over)
  local over_key = over and base .. over
  if over and not is_job(over) then
    return 4, 0
  elseif over and (redis.call('ZSCORE', completed_set, over) or redis.call('ZSCORE', failed_set, over)) then
    return 5, 0 -- it would never be run again, and nobody would learn what its new children made
  end

  -- Whether that job waits for `over`, directly or not: then neither could ever run. The way up is walked once.
  local waiters, is_endless
  local function is_waiting_for_over(key)
    if not waiters then
      waiters = {}
      local at = over_key
      for _ = 1, 1000 do
        waiters[at] = true
        at = redis.pcall('HGET', at, 'parentKey')
        if type(at) ~= 'string' then
          break
        end
      end
      is_endless = type(at) == 'string' -- then nobody can tell
    end
    return is_endless or waiters[key]
  end

  local there = {}
  for i, job in ipairs(jobs) do
    local key, parent = queues[job[1]] .. job[2], jobs[job[11]]
    local parent_key = parent and queues[parent[1]] .. parent[2] or over_key
    local above = there[job[11]]
    if above == 'kept' or above == 'below' then
      there[i] = 'below'
    elseif redis.call('EXISTS', key) == 1 then
      local present = redis.call('HGET', key, 'parentKey')
      if not parent_key then
        return 1, 0
      elseif not parent and present == over_key then
        there[i] = 'kept'
      elseif job[10] then
        return 2, i
      elseif present and present ~= parent_key and redis.call('EXISTS', present) == 1 then
        return 3, i
      elseif over and is_waiting_for_over(key) then
        return 6, i
      else
        there[i] = 'adopted'
      end
    end
  end
  return 0, there
end

local function add_flow(queues, jobs, over, there, now)
  local waits, is_due = {}, {} -- by queue: something waits now, something is delayed

  local function key_of(job)
    return queues[job[1]] .. job[2]
  end

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

  local function add(job, known)
    local queue, id, key = queues[job[1]], job[2], key_of(job)
    redis.call('INCR', queue .. 'id') -- it moves for every job, also for one with an id of its own
    if known then
      tell_queue(queue, 'duplicated', 'jobId', id)
    else
      redis.call('HSET', key, 'name', job[3], 'data', job[4], 'opts', job[5], 'timestamp', texts[job[6]],
        'delay', texts[job[7]], 'priority', texts[job[8]])
      tell_queue(queue, 'added', 'jobId', id, 'name', job[3])
      enqueue(queue, id, job)
    end
    local parent_key = job[11] > 0 and key_of(jobs[job[11]]) or over and base .. over
    if parent_key then
      redis.call('HSET', key, 'parentKey', parent_key, 'parent', job[12])
      if known ~= 'kept' then
        join_parent(parent_key, queue, id, known)
      end
    end
  end

  for i, job in ipairs(jobs) do
    if there[i] ~= 'below' then
      add(job, there[i])
    end
  end
  for i, job in ipairs(jobs) do
    if job[10] and not there[i] then
      release_if_last(key_of(job), queues[job[1]], job[2], now) -- all of its children had completed before
    end
  end
  if over then
    release_if_last(base .. over, base, over, now) -- the same, if it waits for children
  end

  for _, queue in ipairs(queues) do
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
end
