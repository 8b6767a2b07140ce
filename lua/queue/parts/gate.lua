-- queue/parts/gate.lua: the queue's settings, its event stream and its wake-up marker. Needs keys.lua.
local gate = redis.call('HMGET', meta_hash, 'paused', 'concurrency', 'max', 'duration', 'opts.maxLenEvents')
local is_paused = gate[1] ~= false
local concurrency = whole(gate[2]) -- at most so many active jobs in the whole queue
local rate_max, rate_ms = whole(gate[3]), whole(gate[4])
local max_events = whole(gate[5])

-- Whole numbers as text: redis.call would format each of them anew, which costs more than most commands.
local texts = setmetatable({}, {
  __index = function(known, number)
    if number ~= number then
      return '0' -- a table has no place for what is no number
    end
    local text = string.format('%.0f', number)
    known[number] = text
    return text
  end,
})

local events_sent, work_came, due_changed = false, false, false

local function emit(event, ...)
  redis.call('XADD', event_stream, '*', 'event', event, ...)
  events_sent = true
end

-- How many more jobs may become active.
local function free_places()
  if not concurrency then
    return math.huge
  end
  return math.max(0, concurrency - redis.call('LLEN', active_list))
end

-- The earliest time at which a delayed job is due, or nil.
local function next_due()
  local first = redis.call('ZRANGE', delayed_set, 0, 0, 'WITHSCORES')
  return first[2] and math.floor(tonumber(first[2]) / 4096)
end

local function work_waits()
  return redis.call('LLEN', wait_list) > 0 or redis.call('EXISTS', prioritized_set) == 1
end

-- Once, at the end of a script: wakes a worker if there is something that it may take, keeps the stream short.
local function close_gate()
  if work_came and not is_paused and free_places() > 0 and work_waits() then
    redis.call('ZADD', marker_set, 0, '0')
  end
  if due_changed then
    local due = next_due()
    if due then
      redis.call('ZADD', marker_set, due, '1')
    end
  end
  if not max_events or max_events < 0 then
    max_events = 10000
    redis.call('HSET', meta_hash, 'opts.maxLenEvents', max_events)
  end
  if events_sent then
    redis.call('XTRIM', event_stream, 'MAXLEN', '~', max_events)
  end
end
