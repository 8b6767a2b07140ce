-- queue/parts/enqueue.lua: puts ids where workers find them. Needs gate.lua.
-- Ids for the two ends of the wait list are gathered and pushed in one command each by flush_wait: the ends do not
-- disturb each other, so the order is the same.
local heads, tails = {}, {}

local function flush_wait()
  for first = 1, #heads, 5000 do
    redis.call('LPUSH', wait_list, unpack(heads, first, math.min(first + 4999, #heads)))
  end
  for first = 1, #tails, 5000 do
    redis.call('RPUSH', wait_list, unpack(tails, first, math.min(first + 4999, #tails)))
  end
  if #heads + #tails > 0 then
    heads, tails = {}, {}
  end
end

-- Also for another queue, by its base.
local function add_prioritized(queue, id, priority)
  local turn = redis.call('INCR', queue .. 'pc') % 4294967296
  redis.call('ZADD', queue .. 'prioritized', priority * 4294967296 + turn, id)
end

-- Also for another queue, by its base. Ids due in the same millisecond keep their order: 4096 places for each.
local function add_delayed(queue, id, due)
  local first, last = due * 4096, due * 4096 + 4095
  local taken = redis.call('ZREVRANGEBYSCORE', queue .. 'delayed', last, first, 'WITHSCORES', 'LIMIT', 0, 1)
  local score = taken[2] and math.min(tonumber(taken[2]) + 1, last) or first
  redis.call('ZADD', queue .. 'delayed', score, id)
end

local function push_waiting(id, priority, lifo)
  if priority > 0 then
    add_prioritized(base, id, priority)
  elseif lifo then
    tails[#tails + 1] = id
  else
    heads[#heads + 1] = id
  end
  work_came = true
end

-- Before all others of its kind.
local function push_front(id, priority)
  if priority > 0 then
    redis.call('ZADD', prioritized_set, priority * 4294967296, id)
  else
    tails[#tails + 1] = id
  end
  work_came = true
end

local function push_delayed(id, due)
  add_delayed(base, id, due)
  due_changed = true
end
