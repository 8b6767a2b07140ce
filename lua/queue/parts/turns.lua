-- queue/parts/turns.lua: takes the jobs of groups in turn. Needs groups.lua.

-- `jobs` were picked, at most `room`: lets the next of their groups out, and picks on while there is room.
local function take_turns(jobs, room, now, pick_jobs)
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
  local function may_run(id, fields, group, now)
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
      made.enter_line(id, group, 0, true)
      return false
    end
    redis.call('ZADD', groups .. 'known', 0, group)
    made.begin_release(id, group)
    return true
  end

  local at = 1
  while at <= #jobs do
    local id, fields = jobs[at][1], jobs[at][2]
    local group = group_of(fields)
    if group and not may_run(id, fields, group, now) then
      table.remove(jobs, at)
    else
      at = at + 1
    end
    if at > #jobs and release_touched(now) then
      flush_wait()
      if #jobs < room then
        for _, job in ipairs(pick_jobs(room - #jobs)) do
          jobs[#jobs + 1] = job
        end
      end
    end
  end
end
