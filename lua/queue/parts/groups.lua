-- queue/parts/groups.lua: the jobs of groups, which are served in turn. Needs enqueue.lua.
-- A grouped job stands in the line of its group. Of each group only a few, mostly one, are let out of it and stand in
-- `wait`; when one is taken the next follows, behind those of the other groups. So `wait` is the rotation: each group has
-- its turn, however long its line, and whoever takes from `wait` keeps to it without knowing.
-- A job that was let out is "released" until it ends, or stands in its line again; so many count against the group's
-- concurrency. Whoever ends it by these scripts says so; what others do is made good by tend.lua.

-- Whether the queue has groups with jobs or settings: asked once a call, so that others pay no more than that.
local function any_groups()
  return redis.call('EXISTS', groups .. 'known') == 1
end

local function group_key(name, group)
  return groups .. name .. ':' .. group
end

local made_grouping

-- All that is done to groups; made when the first job of a group is met, as to make it costs more than most commands do.
local function grouping()
  if made_grouping then
    return made_grouping
  end

  -- The order in a line: by priority, then by arrival.
  local group_order = 4294967296

  local known_defaults

  -- What holds for groups about which nobody said anything: [concurrency, max, duration, ahead], 0 for no limit.
  local function group_defaults()
    known_defaults = known_defaults or cmsgpack.unpack(ARGV[#ARGV])
    return known_defaults
  end

  local function limit_of(own, default)
    local limit = tonumber(own) or default
    return limit > 0 and limit or nil
  end

  -- Is it paused; concurrency; max and duration of its rate; each nil if there is no limit.
  local function group_limits(group)
    local own, default = redis.call('HMGET', group_key('settings', group), 'paused', 'concurrency', 'max', 'duration'),
      group_defaults()
    local max, duration = default[2], default[3]
    if own[3] and own[4] then
      max, duration = own[3], own[4]
    end
    max, duration = limit_of(max, 0), limit_of(duration, 0)
    return own[1] ~= false, limit_of(own[2], default[1]), max and duration and max, max and duration
  end

  local touched, touched_groups = {}, {}

  -- Whether its next job may come out is looked at by release_touched.
  local function touch_group(group)
    if not touched[group] then
      touched[group] = true
      touched_groups[#touched_groups + 1] = group
    end
  end

  -- A job does not count against its group any more.
  local function end_release(id)
    local group = redis.call('HGET', groups .. 'released', id)
    if not group then
      return
    end
    redis.call('HDEL', groups .. 'released', id)
    if redis.call('HINCRBY', groups .. 'running', group, -1) <= 0 then
      redis.call('HDEL', groups .. 'running', group)
    end
    redis.call('HDEL', group_key('ahead', group), id)
    touch_group(group)
  end

  local function begin_release(id, group)
    if redis.call('HGET', groups .. 'released', id) ~= group then
      end_release(id) -- another job had this id, in another group
      redis.call('HSET', groups .. 'released', id, group)
      redis.call('HINCRBY', groups .. 'running', group, 1)
    end
  end

  -- A job stands in the line of its group: `first` before all others of its priority.
  local function enter_line(id, group, priority, first)
    end_release(id)
    local turn = first and 0 or redis.call('INCR', groups .. 'turn') % group_order
    if redis.call('ZADD', group_key('line', group), texts[priority * group_order + turn], id) == 1 then
      redis.call('INCR', groups .. 'waiting')
    end
    redis.call('ZADD', groups .. 'known', 0, group)
    touch_group(group)
  end

  local function shorten_line(group, ids)
    local left = redis.call('ZREM', group_key('line', group), unpack(ids))
    if left > 0 and redis.call('DECRBY', groups .. 'waiting', left) <= 0 then
      redis.call('DEL', groups .. 'waiting')
    end
    return left
  end

  -- A job is removed. True if it stood in its line.
  local function drop_from_group(id, group)
    end_release(id)
    touch_group(group)
    return shorten_line(group, { id }) > 0
  end

  -- Nothing is left of a group in which nothing is and about which nobody said anything.
  local function forget_idle_group(group)
    if redis.call('EXISTS', group_key('line', group), group_key('settings', group)) == 0
      and redis.call('HEXISTS', groups .. 'running', group) == 0 then
      redis.call('ZREM', groups .. 'known', group)
      redis.call('ZREM', groups .. 'held', group)
      if redis.call('EXISTS', groups .. 'known') == 0 then
        redis.call('DEL', groups .. 'turn')
      end
    end
  end

  -- The group is looked at again at that time.
  local function hold_group(group, due)
    redis.call('ZADD', groups .. 'held', texts[due], group)
    if not is_paused then
      redis.call('ZADD', marker_set, 'LT', texts[due], due > 0 and '1' or '0')
    end
  end

  -- How many released jobs of a group wait to be taken. Those that somebody has taken without a word are struck off: each
  -- taking counts in the job's own `ats`.
  local function count_ahead(group)
    local flat, count = redis.call('HGETALL', group_key('ahead', group)), 0
    for i = 1, #flat, 2 do
      local id = flat[i]
      local stored = redis.pcall('HMGET', base .. id, group_field, 'ats', 'finishedOn')
      if stored.err or stored[1] ~= group or stored[3] then
        end_release(id)
      elseif (stored[2] or '0') ~= flat[i + 1] then
        redis.call('HDEL', group_key('ahead', group), id)
      else
        count = count + 1
      end
    end
    return count
  end

  -- When the present rate window ends and how many jobs came out in it. A window that a fast clock has set ends no later
  -- than one of this clock would.
  local function rate_window(group, duration, now)
    local stored = redis.call('HMGET', group_key('window', group), 'ends', 'used')
    local ends, used = tonumber(stored[1]), tonumber(stored[2])
    if not ends or not used or ends <= now then
      return now + duration, 0
    end
    return math.min(ends, now + duration), used
  end

  local function note_in_window(group, ends, used, duration)
    redis.call('HSET', group_key('window', group), 'ends', texts[ends], 'used', texts[used])
    -- Longer than the window, which goes by the callers' clocks.
    redis.call('PEXPIRE', group_key('window', group), texts[duration + 60000])
  end

  -- The first `most` jobs in a group's line, and all ids that were looked at: an id without a job of this group is none.
  local function head_of_line(group, most)
    local jobs, looked_at = {}, redis.call('ZRANGE', group_key('line', group), 0, most - 1)
    for _, id in ipairs(looked_at) do
      local stored = redis.pcall('HMGET', base .. id, group_field, 'ats')
      if not stored.err and stored[1] == group then
        jobs[#jobs + 1] = { id, stored[2] or '0' }
      end
    end
    return jobs, looked_at
  end

  -- Lets out of its line what may come out of it now. Without a time, a group with a rate limit is left to the next taker.
  local function release(group, now)
    local paused, concurrency, max, duration = group_limits(group)
    local ahead = count_ahead(group)
    local room = group_defaults()[4] - ahead
    if concurrency then
      room = math.min(room, concurrency - (tonumber(redis.call('HGET', groups .. 'running', group) or nil) or 0))
    end
    if paused or room <= 0 then
      return
    end
    local ends, used
    if max then
      if now then
        ends, used = rate_window(group, duration, now)
      end
      if not now or used >= max then
        if redis.call('EXISTS', group_key('line', group)) == 1 then
          hold_group(group, now and ends or 0)
        end
        return
      end
      room = math.min(room, max - used, 1 - ahead) -- with one at most it is known when it was counted
      if room <= 0 then
        return
      end
    end
    local count = 0
    for round = 1, 20 do -- ids without a job make room for others, but not without end
      local jobs, looked_at = head_of_line(group, room - count)
      if #looked_at == 0 then
        break
      end
      shorten_line(group, looked_at)
      for _, job in ipairs(jobs) do
        local id = job[1]
        begin_release(id, group)
        redis.call('HSET', group_key('ahead', group), id, job[2])
        push_waiting(id, 0, false)
        emit('waiting', 'jobId', id)
      end
      count = count + #jobs
      if count >= room then
        break
      elseif round == 20 then
        hold_group(group, 0)
      end
    end
    if max and count > 0 then
      note_in_window(group, ends, used + count, duration)
      if used + count >= max and redis.call('EXISTS', group_key('line', group)) == 1 then
        hold_group(group, ends)
      end
    end
  end

  -- Whoever may come out of the line of a touched group does.
  local function release_touched(now)
    for _, group in ipairs(touched_groups) do
      release(group, now)
      forget_idle_group(group)
    end
    touched, touched_groups = {}, {}
  end

  -- Groups whose rate window is over.
  local function release_held(now)
    local due = redis.call('ZRANGEBYSCORE', groups .. 'held', '-inf', texts[now], 'LIMIT', 0, 1000)
    if #due > 0 then
      redis.call('ZREM', groups .. 'held', unpack(due))
      for _, group in ipairs(due) do
        touch_group(group)
      end
      release_touched(now)
    end
  end

  local function next_held()
    local first = redis.call('ZRANGE', groups .. 'held', 0, 0, 'WITHSCORES')
    return tonumber(first[2])
  end

  made_grouping = {
    begin_release = begin_release, count_ahead = count_ahead, drop = drop_from_group, end_release = end_release,
    enter_line = enter_line, limits = group_limits, next_held = next_held, note_in_window = note_in_window,
    rate_window = rate_window, release_held = release_held, release_touched = release_touched,
    shorten_line = shorten_line, touch = touch_group,
    is_touched = function()
      return #touched_groups > 0
    end,
  }
  return made_grouping
end

-- Once the caller's own changes are made: whoever may come out of a line does. True if there were changes to look at.
local function release_touched(now)
  if made_grouping and made_grouping.is_touched() then
    made_grouping.release_touched(now)
    return true
  end
end

-- A job that was taken out of delayed waits. `priority` and `group` are as its hash has them.
local function promote_job(id, priority, group)
  if group then
    grouping().enter_line(id, group, number_of(priority))
  else
    push_waiting(id, number_of(priority), false)
    emit('waiting', 'jobId', id, 'prev', 'delayed')
  end
  redis.call('HSET', base .. id, 'delay', '0')
end
