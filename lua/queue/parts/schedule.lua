-- queue/parts/schedule.lua: the names of job schedulers and of their runs. Needs gate.lua.
local schedulers_set = base .. 'repeat' -- scored by the time of each one's present run

local function scheduler_hash(scheduler)
  return base .. 'repeat:' .. scheduler
end

-- The id of the run that is due at `due`. It tells a scheduler's runs apart, so none is made twice.
local function run_id(scheduler, due)
  return 'repeat:' .. scheduler .. ':' .. texts[due]
end

-- The first time after `time` of those that are `offset` after the multiples of an interval.
local function slot_after(time, every, offset)
  return time - (time - offset) % every + every
end
