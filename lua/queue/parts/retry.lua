-- queue/parts/retry.lua: makes a finished job wait again. Needs groups.lua and options.lua.

-- The parent counts on the child again, and stays where it is itself.
local function reattach(id, parent_key, state)
  if not parent_key or redis.call('EXISTS', parent_key) == 0 then
    return
  end
  local child, moved = base .. id, 0
  if state == 'completed' then
    moved = redis.call('HDEL', parent_key .. ':processed', child)
  else
    moved = redis.call('ZREM', parent_key .. ':unsuccessful', child)
      + redis.call('HDEL', parent_key .. ':failed', child)
  end
  if moved > 0 then
    redis.call('SADD', parent_key .. ':dependencies', child)
  end
end

local function reattach_child(...)
  pcall(reattach, ...) -- as with detach_child
end

-- The caller has taken the id out of `state`. With `anew`, its attempts are counted from 0 again.
local function retry_job(id, state, anew)
  local key = base .. id
  local job = redis.call('HMGET', key, 'priority', 'opts', 'parentKey', group_field)
  -- One that was cancelled and completed all the same still has the mark.
  redis.call('HDEL', key, 'finishedOn', 'processedOn', state == 'completed' and 'returnvalue' or 'failedReason',
    'defa', 'onetake-cancelled')
  if anew then
    redis.call('HDEL', key, 'atm', 'ats', 'attemptsMade')
  end
  reattach_child(id, job[3], state)
  if job[4] then
    grouping().enter_line(id, job[4], number_of(job[1]))
  else
    push_waiting(id, number_of(job[1]), options_of(job[2]).lifo == true)
    emit('waiting', 'jobId', id, 'prev', state)
  end
end
