-- queue/parts/turns.lua: takes the jobs of groups in turn. Needs groups.lua.

-- `jobs` were picked by `pick_jobs`, at most `room` and by priority `places`: lets the next of their groups out, and picks
-- on while there is room.
local function take_turns(jobs, room, places, now, pick_jobs)
  local made = grouping()

  local function group_of(fields)
    for i = 1, #fields, 2 do
      if fields[i] == group_field then
        return fields[i + 1]
      end
    end
  end

  -- A grouped job was picked. False if it may not run now: it came into `wait` around its group (a stock worker promotes
  -- and retries jobs without knowing), and stands in the line again.
  local function may_run(id, group, now)
    local _, concurrency, max, duration
    if redis.call('HGET', groups .. 'released', id) == group then
      if redis.call('HDEL', group_key('ahead', group), id) == 1 then
        made.touch(group)
        _, _, max, duration = made.limits(group)
        if max then
          local ends, used = made.rate_window(group, duration, now)
          if used == 0 then -- released in an earlier window, it runs in this one
            made.note_in_window(group, ends, 1, duration)
          end
        end
      end
      return true
    end
    local paused
    paused, concurrency = made.limits(group)
    local running = tonumber(redis.call('HGET', groups .. 'running', group) or nil) or 0
    if paused or concurrency and running >= concurrency then
      made.enter_line(id, group, number_of(fields_of(id, 'priority')[1]), true)
      return false
    end
    redis.call('ZADD', groups .. 'known', 0, group)
    made.begin_release(id, group)
    return true
  end

  local ids, hashes, at = jobs.ids, jobs.hashes, 1
  while at <= #ids do
    local group = group_of(hashes[at])
    if group and not may_run(ids[at], group, now) then
      table.remove(ids, at)
      table.remove(hashes, at)
    else
      at = at + 1
    end
    if at > #ids and release_touched(now) then
      flush_wait()
      local most = jobs.is_careful and places or room
      if #ids < most then
        local more = pick_jobs(most - #ids, places - #ids)
        jobs.is_careful = jobs.is_careful or more.is_careful
        for i, id in ipairs(more.ids) do
          ids[#ids + 1], hashes[#hashes + 1] = id, more.hashes[i]
        end
      end
    end
  end
end
