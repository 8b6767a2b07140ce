-- queue/parts/create.lua: makes a job. Needs groups.lua.

-- job: id, name, data, options (JSON), timestamp, delay, priority, lifo, group; extra: more fields, flat.
local function create_job(job, extra)
  local id, priority = job.id, job.priority
  redis.call('HSET', base .. id, 'name', job.name, 'data', job.data, 'opts', job.options,
    'timestamp', texts[job.timestamp], 'delay', texts[job.delay], 'priority', texts[priority], unpack(extra))
  emit('added', 'jobId', id, 'name', job.name)
  if job.delay > 0 then
    local due = job.timestamp + job.delay
    push_delayed(id, due)
    emit('delayed', 'jobId', id, 'delay', texts[due])
  elseif job.group then
    grouping().enter_line(id, job.group, priority)
  else
    push_waiting(id, priority, job.lifo)
    emit('waiting', 'jobId', id)
  end
end
