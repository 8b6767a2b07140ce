-- queue/parts/create.lua: makes a job. Needs groups.lua.

-- options: JSON. field, value: one more field of its hash, or nil. Not a table of all this: to make one for each job costs
-- as much as to write an event.
local function create_job(id, name, data, options, timestamp, delay, priority, lifo, group, field, value)
  local call = redis.call
  call('HSET', base .. id, 'name', name, 'data', data, 'opts', options, 'timestamp', texts[timestamp],
    'delay', texts[delay], 'priority', texts[priority])
  if field then
    call('HSET', base .. id, field, value)
  end
  call('XADD', event_stream, '*', 'event', 'added', 'jobId', id, 'name', name)
  if delay > 0 then
    local due = timestamp + delay
    push_delayed(id, due)
    emit('delayed', 'jobId', id, 'delay', texts[due])
  elseif group then
    grouping().enter_line(id, group, priority)
  else
    push_waiting(id, priority, lifo)
    call('XADD', event_stream, '*', 'event', 'waiting', 'jobId', id)
  end
  events_sent = true
end
