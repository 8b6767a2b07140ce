-- queue/ensure.lua: see to it that a job of each id is there to be run.
-- KEYS     1 base   "<prefix>:<queue>:"
-- ARGV     1 now    ms
--          2 jobs   MessagePack, as in add.lua, each with an id
-- RETURNS  [[id, 0 present | 1 was delayed for longer and is hastened | 2 added | 3 removed and added anew], ...]
-- COST     O(log n) a job. A job's hash and the sorted sets tell most states; the lists are searched only for a job of
--          which they tell nothing, and only their last 1000: in a longer list it counts as present.
local jobs = cmsgpack.unpack(ARGV[2])
local now = tonumber(ARGV[1])

-- Brings a delayed job's time forward if it is later than wanted.
local function hasten(id, score, wanted_due)
  local due = math.floor(score / 4096)
  if wanted_due >= due then
    return 0
  end
  redis.call('ZREM', delayed_set, id)
  due_changed = true
  if wanted_due > now then
    redis.call('HSET', base .. id, 'delay', wanted_due - now)
    push_delayed(id, wanted_due)
    emit('delayed', 'jobId', id, 'delay', wanted_due)
  else
    promote_job(id, unpack(redis.call('HMGET', base .. id, 'priority', group_field), 1, 2))
  end
  return 1
end

-- Whether a job that is in no sorted set of the unfinished stands in one of the lists.
local function is_listed(id)
  return redis.call('EXISTS', lock_of(id)) == 1
    or may_be_in(active_list, id, 1000)
    or may_be_in(wait_list, id, 1000)
    or may_be_in(paused_list, id, 1000)
end

local outcomes, created = {}, {}
for i, job in ipairs(jobs) do
  local id, outcome = job[1], nil
  local wanted_due = job[5] + job[6]
  if redis.call('EXISTS', base .. id) == 0 then
    outcome = 2
  else
    flush_wait() -- so that the lists show what this batch has added
    local score = redis.call('ZSCORE', delayed_set, id)
    if score then
      outcome = hasten(id, tonumber(score), wanted_due)
    elseif redis.call('ZSCORE', parked_set, id) or redis.call('ZSCORE', prioritized_set, id) then
      outcome = 0
    else
      local finished = redis.call('ZSCORE', completed_set, id) or redis.call('ZSCORE', failed_set, id)
      outcome = (finished or not is_listed(id)) and 3 or 0
    end
  end
  if outcome == 3 then
    delete_job(id)
  end
  if outcome >= 2 then
    created[#created + 1] = id
    create_job(id, job[2], job[3], job[4], job[5], job[6], job[7], job[8])
  end
  outcomes[i] = { id, outcome }
end
if #created > 0 then
  redis.call('INCRBY', id_counter, #created)
  -- A stale id among the finished would hide the new job's state.
  redis.call('ZREM', completed_set, unpack(created))
  redis.call('ZREM', failed_set, unpack(created))
end
release_touched(now)
flush_wait()
close_gate()
return outcomes
