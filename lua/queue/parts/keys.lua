-- queue/parts/keys.lua: spells the queue's keys. Its twin in Rust is src/queue/keys.rs.
-- Each script gets two keys, in one hash slot; all others begin with them. (add_flow.lua alone gets the bases of other queues
-- as well, and no word on groups.) The last argument of each of the others says what holds for groups: see groups.lua.
local base = KEYS[1] -- "<prefix>:<queue>:"
local groups = KEYS[2] -- "<namespace>:groups:<base>": what is told of groups, outside the queue's namespace
local group_field = 'onetake:group' -- of a job's hash

local wait_list = base .. 'wait' -- ready jobs without priority: added at the head, taken from the tail
local paused_list = base .. 'paused' -- where BullMQ 5 keeps them during a pause; only ever emptied here
local active_list = base .. 'active'
local prioritized_set = base .. 'prioritized'
local delayed_set = base .. 'delayed'
local parked_set = base .. 'waiting-children'
local completed_set, failed_set = base .. 'completed', base .. 'failed'
local stalled_set = base .. 'stalled' -- active at the last scan and not renewed since
local marker_set = base .. 'marker' -- what idle workers block on
local event_stream = base .. 'events'
local meta_hash = base .. 'meta'
local id_counter = base .. 'id'
local limiter = base .. 'limiter' -- jobs taken in the present rate window

local function lock_of(id)
  return base .. id .. ':lock'
end

-- What stands in hashes was written by many clients, and by people. Lua reads "nan", "inf" and "0x10" as numbers, too.
-- A whole number, or nil.
local function whole(text)
  local number = tonumber(text)
  return number and math.abs(number) < 9e15 and math.floor(number) or nil
end

local function number_of(text)
  return whole(text) or 0
end

-- Fields of a job's hash; none where something else stands under its key.
local function fields_of(id, ...)
  local fields = redis.pcall('HMGET', base .. id, ...)
  return fields.err and {} or fields
end

local function is_job(id)
  return redis.call('TYPE', base .. id).ok == 'hash'
end
