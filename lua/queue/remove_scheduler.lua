-- queue/remove_scheduler.lua: end a schedule. A run that waits or is being worked on is its last.
-- KEYS     1 base  "<prefix>:<queue>:"
-- ARGV     1 scheduler
-- RETURNS  0 removed, 1 there is none
-- COST     O(log n)
local scheduler = ARGV[1]
local score = tonumber(redis.call('ZSCORE', schedulers_set, scheduler) or nil)
local is_known = redis.call('EXISTS', scheduler_hash(scheduler)) == 1
if not score and not is_known then
  return 1
end
local id = score and run_id(scheduler, score)
if id and redis.call('ZREM', delayed_set, id) == 1 then
  delete_job(id)
  emit('removed', 'jobId', id, 'prev', 'delayed')
end
redis.call('ZREM', schedulers_set, scheduler)
redis.call('DEL', scheduler_hash(scheduler))
close_gate()
return 0
