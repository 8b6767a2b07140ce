-- queue/remove.lua: remove a job that nobody runs, in whatever state.
-- KEYS     1 base  "<prefix>:<queue>:"
-- ARGV     1 now   ms, for a parent that this sets free
--          2 id
-- RETURNS  0 removed, 1 there is none, 2 somebody runs it, 3 it is a scheduler's present run
-- COST     O(waiting)
local now, id = tonumber(ARGV[1]), ARGV[2]
local key = base .. id
if redis.call('EXISTS', lock_of(id)) == 1 then
  return 2
end
local job = redis.call('HMGET', key, 'rjk', 'deid', 'parentKey', 'parent')
if job[1] then
  local run = redis.call('ZSCORE', base .. 'repeat', job[1])
  if run and id == 'repeat:' .. job[1] .. ':' .. string.format('%.0f', run) then
    return 3
  end
end
local is_known = redis.call('EXISTS', key) == 1

-- Out of every state, so that no stale id is left; the first names the event's `prev`.
local previous
for _, set in ipairs({ 'completed', 'failed', 'delayed', 'prioritized', 'waiting-children' }) do
  if redis.call('ZREM', base .. set, id) == 1 then
    previous = previous or set
  end
end
for _, list in ipairs({ 'active', 'wait', 'paused' }) do
  if not previous and redis.call('LREM', base .. list, 0, id) > 0 then
    previous = list
  end
end
if not is_known and not previous then
  return 1
end
if job[2] then
  free_deduplication(id, job[2])
end
detach_child(id, job[3], job[4], now)
delete_job(id)
redis.call('SREM', stalled_set, id)
emit('removed', 'jobId', id, 'prev', previous or 'unknown')
close_gate()
return 0
