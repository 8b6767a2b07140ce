-- queue/finish_parked.lua: end jobs that were parked in waiting-children without children.
-- KEYS     1 base  "<prefix>:<queue>:"
-- ARGV     1 now   ms
--          2 ends  MessagePack [[id, timestamp, mark field, mark value, completes, value or reason], ...]
--          3 keep  MessagePack [completed, failed, minutes of metrics], the first two [count or -1, age in s or nil, limit or nil]
-- RETURNS  [0 finished | 1 not parked | 2 finished before | 3 gone, ...]
-- COST     O(log n) a job
local now = tonumber(ARGV[1])
local keep_default = cmsgpack.unpack(ARGV[3])

local function refusal(id, timestamp, mark_field, mark_value)
  local stored = fields_of(id, 'timestamp', mark_field, 'finishedOn')
  if math.floor(tonumber(stored[1]) or -1) ~= timestamp or (stored[2] and stored[2] ~= mark_value) then
    return 3 -- another job has this id now
  elseif stored[3] then
    return 2
  elseif not stored[2] or not redis.call('ZSCORE', parked_set, id) then
    return 1 -- on its way to being parked; or retried or promoted by hand: it will be parked again
  end
end

local outcomes, completed, failed = {}, 0, 0
for i, parked in ipairs(cmsgpack.unpack(ARGV[2])) do
  local id = parked[1]
  local outcome = refusal(id, parked[2], parked[3], parked[4]) or 0
  if outcome == 0 then
    local job = fields_of(id, unpack(ending_fields))
    redis.call('ZREM', parked_set, id)
    if parked[5] then
      complete_job(id, job, parked[6], keep_default, now)
      completed = completed + 1
    else
      fail_job(id, job, parked[6], nil, nil, keep_default, now)
      failed = failed + 1
    end
  end
  outcomes[i] = outcome
end
prune_finished(now)
flush_wait()
count_all_ended(completed, failed, keep_default[3], now)
close_gate()
return outcomes
