-- queue/parts/schedule_run.lua: makes a run of a job scheduler. Needs create.lua and schedule.lua.

-- Makes the scheduler's next run and names it the present one. run: name, data, options (a JSON object with something in
-- it, to which is added what depends on the time), priority, lifo, is_cron.
local function add_run(scheduler, due, now, run)
  local id, delay = run_id(scheduler, due), math.max(0, due - now)
  redis.call('ZADD', schedulers_set, texts[due], scheduler)
  redis.call('INCR', id_counter)
  local timed = string.format(',"jobId":%s,"timestamp":%s,"delay":%s', cjson.encode(id), texts[now], texts[delay])
  if run.is_cron then
    timed = timed .. ',"prevMillis":' .. texts[due]
  end
  create_job(id, run.name, run.data, string.sub(run.options, 1, -2) .. timed .. '}', now, delay, run.priority, run.lifo,
    nil, 'rjk', scheduler)
  return id
end
