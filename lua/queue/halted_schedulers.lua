-- queue/halted_schedulers.lua: a page of those schedulers whose present run nobody will take any more.
-- It ended without a next one (the last one, by its limit or end; or its worker made none), or it is gone.
-- KEYS     1 base   "<prefix>:<queue>:"
-- ARGV     1 start  how many schedulers to skip
--          2 limit  look at so many at most
-- RETURNS  [how many were looked at, [[id, due, flat hash, options of that run or nil, its data or nil], ...]]
-- COST     O(limit); where a run is in no sorted set, O(1000) for each list
local start, limit = tonumber(ARGV[1]), tonumber(ARGV[2])

local function will_be_taken(id)
  if redis.call('EXISTS', lock_of(id)) == 1 then
    return true
  elseif redis.call('EXISTS', base .. id) == 0 or redis.call('ZSCORE', completed_set, id)
    or redis.call('ZSCORE', failed_set, id) then
    return false
  end
  return redis.call('ZSCORE', delayed_set, id) ~= false
    or redis.call('ZSCORE', prioritized_set, id) ~= false
    or redis.call('ZSCORE', parked_set, id) ~= false
    or may_be_in(active_list, id, 1000)
    or may_be_in(wait_list, id, 1000)
    or may_be_in(paused_list, id, 1000)
end

local page = redis.call('ZRANGE', schedulers_set, start, start + limit - 1, 'WITHSCORES')
local halted = {}
for i = 1, #page, 2 do
  local scheduler, due = page[i], number_of(page[i + 1])
  local id = run_id(scheduler, due)
  if not will_be_taken(id) then
    local fields = redis.pcall('HGETALL', scheduler_hash(scheduler))
    local run = fields_of(id, 'opts', 'data')
    local template = fields_of('repeat:' .. scheduler, 'data', 'ic')
    -- A repeatable of BullMQ 5 keeps its data in its run alone, and its producer adds that one after the schedule.
    if not fields.err and #fields > 0 and (run[2] or template[1] or template[2]) then
      halted[#halted + 1] = { scheduler, texts[due], fields, run[1], run[2] }
    end
  end
end
return { #page / 2, halted }
