-- queue/parts/take.lua: takes a batch of jobs. Needs turns.lua.

-- Jobs whose time has come begin to wait; at most 1000 a call, the next call goes on. True if groups have some of them.
local function promote_due(now)
  local ids = redis.call('ZRANGEBYSCORE', delayed_set, 0, (now + 1) * 4096 - 1, 'LIMIT', 0, 1000)
  if #ids == 0 then
    return
  end
  redis.call('ZREM', delayed_set, unpack(ids))
  for _, id in ipairs(ids) do
    local stored = fields_of(id, 'priority', 'delay', group_field)
    if stored[1] or stored[2] or is_job(id) then
      promote_job(id, stored[1], stored[3])
    end
  end
  local has_groups = release_touched(now)
  flush_wait()
  return has_groups
end

-- How many jobs a rate limit of `max` a window still allows, and if none, for how many milliseconds not. Without a limit,
-- the one that queue.rateLimit() sets is still heeded.
local function rate_room(max)
  local used = tonumber(redis.call('GET', limiter)) or 0
  local limit = max or 9007199254740991
  if used < limit then
    return limit - used, -1
  end
  local left = redis.call('PTTL', limiter)
  if left > 0 then
    return 0, left
  elseif left == 0 then
    redis.call('DEL', limiter)
  end
  return limit, -1 -- a counter without an end limits nothing
end

-- Whether the job was with a worker that died.
local function has_stalled(fields)
  for f = 1, #fields, 2 do
    if fields[f] == 'stc' then
      return true
    end
  end
  return false
end

-- Appends the first jobs of those that `ids` names to `jobs` (ids, and their flat hashes), up to its `room`. Nothing is written
-- for an id without a job, or with something else under its key. Answers how many ids were looked at.
local function read_jobs(ids, jobs)
  local taken, hashes, looked_at = jobs.ids, jobs.hashes, 0
  for _, id in ipairs(ids) do
    if #taken >= jobs.room then
      break
    end
    local fields = redis.pcall('HGETALL', base .. id)
    if not fields.err and #fields > 0 and not string.find(id, '^0:') then -- such ids are markers of very old versions
      if jobs.room > jobs.places and has_stalled(fields) then
        -- Should it kill this worker as well, none that was only taken ahead shall be blamed for it.
        jobs.room, jobs.is_careful = math.max(jobs.places, 0), true
        if #taken >= jobs.room then
          break
        end
      end
      taken[#taken + 1], hashes[#hashes + 1] = id, fields
    end
    looked_at = looked_at + 1
  end
  return looked_at
end

-- Reads before it writes: an error in between would leave ids in no state at all. By priority only the first `places`: put back
-- to the front, those would lose the order among them.
local function pick_jobs(room, places)
  local jobs = { ids = {}, hashes = {}, room = room, places = places }
  local picked = jobs.ids
  for _ = 1, 4 do -- ghosts make room for others, but not without end
    local wanted = jobs.room - #picked
    local ids = redis.call('LRANGE', wait_list, -wanted, -1)
    local from_tail = {}
    for i = #ids, 1, -1 do
      from_tail[#from_tail + 1] = ids[i]
    end
    local looked_at = read_jobs(from_tail, jobs)
    if looked_at > 0 then
      redis.call('LTRIM', wait_list, 0, -(looked_at + 1))
    end
    if #picked >= jobs.room or #ids < wanted then
      break
    end
  end
  jobs.room = math.min(jobs.room, places)
  for _ = 1, 4 do
    if #picked >= jobs.room then
      break
    end
    local ids = redis.call('ZRANGE', prioritized_set, 0, jobs.room - #picked - 1)
    if #ids == 0 then
      redis.call('DEL', base .. 'pc') -- the order inside a priority may start anew
      break
    end
    local looked_at = read_jobs(ids, jobs)
    redis.call('ZREM', prioritized_set, unpack(ids, 1, looked_at))
  end
  return jobs
end

-- Locks the jobs and puts them into active. Answers how many count for a rate limit: one that will only be failed does not.
local function start_jobs(jobs, token, lease_ms, worker, now)
  local call, ids, hashes = redis.call, jobs.ids, jobs.hashes
  local now_text, lease_text, counted = texts[now], texts[lease_ms], #ids
  for i = 1, #ids do
    local id, fields = ids[i], hashes[i]
    local key, starts = base .. id, nil
    for f = 1, #fields, 2 do
      local field = fields[f]
      if field == 'ats' then
        starts = fields[f + 1]
      elseif field == 'defa' then
        counted = counted - 1
      end
    end
    call('SET', key .. ':lock', token, 'PX', lease_text)
    call('XADD', event_stream, '*', 'event', 'active', 'jobId', id, 'prev', 'waiting')
    if worker then
      call('HSET', key, 'processedOn', now_text, 'ats', texts[number_of(starts) + 1], 'pb', worker)
    else
      call('HSET', key, 'processedOn', now_text, 'ats', texts[number_of(starts) + 1])
    end
  end
  call('LPUSH', active_list, unpack(ids))
  events_sent = true
  work_came = true -- whoever is idle looks whether there is more
  return counted
end

-- request: { most, token, lease_ms, worker name or nil, the worker's own rate limit: max and ms, or nil; places: how many are
-- started at once, while the rest is taken ahead }; has_groups: what any_groups says. Returns what src/queue/take.rs reads.
-- Of both limits the queue's max counts, and the worker's window: so BullMQ.
local function take_jobs(request, now, has_groups)
  local most, token, lease_ms, worker = request[1], request[2], request[3], request[4]
  local max, window_ms, places = rate_max or request[5], request[6] or rate_ms, request[7]
  max = window_ms and max
  if max or concurrency then
    most = math.min(most, places) -- of a limited queue nothing is taken that may be put back
  end
  local room, limited_ms, due = most, -1, -1
  if redis.call('EXISTS', delayed_set, limiter) > 0 then -- mostly there is neither
    has_groups = promote_due(now) or has_groups
    room, limited_ms = rate_room(max)
    due = next_due() or -1
  elseif max then
    room = max
  end
  if has_groups then
    grouping().release_held(now)
    flush_wait()
  end
  local jobs = { ids = {}, hashes = {} }
  room = math.min(most, room, free_places())
  if room > 0 and not is_paused then
    jobs = pick_jobs(room, places)
    if has_groups then
      take_turns(jobs, room, places, now, pick_jobs)
    end
  end
  if #jobs.ids > 0 then
    local counted = start_jobs(jobs, token, lease_ms, worker, now)
    if max and counted > 0 and redis.call('INCRBY', limiter, counted) == counted then
      redis.call('PEXPIRE', limiter, math.max(1, math.floor(math.abs(window_ms))))
    end
  end
  local held = has_groups and grouping().next_held()
  if held and (due < 0 or held < due) then
    due = held
  end
  return { jobs.ids, jobs.hashes, due, limited_ms, is_paused and 1 or 0 }
end
