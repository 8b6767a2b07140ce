-- queue/parts/retry.lua: makes a finished job wait again. Needs options.lua and parent.lua.

-- The parent counts on the child again, and stays where it is itself.
local function reattach_child(id, parent_key, state)
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

-- The caller has taken the id out of `state`. With `anew`, its attempts are counted from 0 again.
local function retry_job(id, state, anew)
  local key = base .. id
  local job = redis.call('HMGET', key, 'priority', 'opts', 'parentKey')
  -- One that was cancelled and completed all the same still has the mark.
  redis.call('HDEL', key, 'finishedOn', 'processedOn', state == 'completed' and 'returnvalue' or 'failedReason',
    'defa', 'onetake-cancelled')
  if anew then
    redis.call('HDEL', key, 'atm', 'ats', 'attemptsMade')
  end
  push_waiting(id, tonumber(job[1]) or 0, options_of(job[2]).lifo == true)
  reattach_child(id, job[3], state)
  emit('waiting', 'jobId', id, 'prev', state)
end
