-- queue/cancel.lua: end a job as failed, for good, before anybody has finished it.
-- One that nobody runs fails at once. One that runs is marked: its worker is to stop it, and whoever takes it again, should
-- that worker die or let it go, fails it instead of running it (`defa`, which Node workers heed, too).
-- KEYS     1 base    "<prefix>:<queue>:"
-- ARGV     1 now     ms
--          2 id
--          3 reason
--          4 ours    how the names of workers begin that listen for this
--          5 keep    MessagePack [completed, failed, minutes of metrics], the first two [count or -1, age in s or nil, limit or nil]
-- RETURNS  0 it has failed, 1 there is none, 2 it ended before, 3 it is a scheduler's present run, 4 a worker runs it that
--          does not listen, 5 it is marked
-- COST     O(waiting) for a job in a list
local now, id, reason = tonumber(ARGV[1]), ARGV[2], ARGV[3]
local key = base .. id
local job = fields_of(id, unpack(ending_fields))
if redis.call('EXISTS', key) == 0 then
  return 1
elseif not is_job(id) then
  return 1
elseif redis.call('ZSCORE', completed_set, id) or redis.call('ZSCORE', failed_set, id) then
  return 2
end
if redis.call('EXISTS', lock_of(id)) == 1 then
  local held = redis.call('HMGET', key, 'pb', 'processedOn', 'ats')
  if string.sub(held[1] or '', 1, #ARGV[4]) ~= ARGV[4] then
    return 4
  end
  -- With the time and number of its start, so that it does not concern a later one of the same job.
  local start = (held[2] or '') .. '-' .. (held[3] or '')
  redis.call('HSET', key, 'defa', reason, 'onetake-cancelled', start .. ' ' .. reason)
  return 5
end
if is_present_run(id) then
  return 3
end
local previous = take_out(base, id)
local group = redis.call('HGET', key, group_field)
if group and grouping().drop(id, group) then
  previous = 'wait'
end
if not previous then
  return 1 -- a record without a state: nobody will ever take it
end
local keep_default = cmsgpack.unpack(ARGV[5])
fail_job(id, job, reason, nil, previous, keep_default, now)
prune_finished(now)
release_touched(now)
flush_wait()
count_all_ended(0, 1, keep_default[3], now)
if previous == 'active' and concurrency then
  work_came = true -- a place is free: somebody who was kept out may come in
end
close_gate()
return 0
