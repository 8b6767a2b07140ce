-- queue/parts/look.lua: where a job is, and what it is to others. Needs keys.lua.

-- Whether `id` is in `list`, looking at its last `most` items; true as well when the list is longer than that.
local function may_be_in(list, id, most)
  if redis.call('LPOS', list, id, 'RANK', -1, 'MAXLEN', most) then
    return true
  end
  return redis.call('LLEN', list) > most
end

-- Whether `id` is the run that a scheduler waits for: without it, the schedule ends.
local function is_present_run(id)
  local scheduler, time = string.match(id, '^repeat:(.*):(%d+)$')
  return scheduler ~= nil and tonumber(redis.call('ZSCORE', base .. 'repeat', scheduler)) == tonumber(time)
end
