-- queue/parts/lone.lua: the commonest call, made short: one plain job completes, or none, and the next plain one is taken, if
-- there is one. Stands before all other parts of settle.lua, as to make their functions would cost more than all commands
-- here. Where anything is uncommon it writes nothing and answers nil, and settle.lua does the work. What it leaves is what
-- settle.lua leaves: tests compare the two.
local ended, keep_default = cmsgpack.unpack(ARGV[2]), cmsgpack.unpack(ARGV[3])

local function is_count(text)
  return text and #text < 16 and string.find(text, '^%d+$')
end

-- The text of one more than `text` says, which may be missing; nothing if that is no plain number.
local function one_more(text)
  return not text and '1' or is_count(text) and string.format('%.0f', text + 1)
end

local function settle_lone_job()
  local attempt, base, call = ended[1], KEYS[1], redis.call
  local request = ARGV[4] ~= '' and cmsgpack.unpack(ARGV[4]) -- as take_jobs has it
  if #ended > 1 or attempt and attempt[3] ~= 'complete' or request and request[6] then
    return
  end
  local settings = call('HMGET', base .. 'meta', 'paused', 'concurrency', 'max', 'opts.maxLenEvents')
  local max_events = settings[4]
  if settings[1] or settings[2] or settings[3] or not is_count(max_events) then
    return
  end
  local id = attempt and attempt[1] or ''
  local key = base .. id
  local lock_key, active, completed = key .. ':lock', base .. 'active', base .. 'completed'
  if call('EXISTS', base .. 'delayed', base .. 'limiter', base .. 'prioritized', base .. 'pc', KEYS[2] .. 'known',
    key .. ':dependencies', key .. ':unsuccessful') > 0 then
    return
  end

  local now, keep, attempts_made = ARGV[1], keep_default[1][1], nil
  if attempt then
    local job = redis.pcall('HMGET', key, 'opts', 'atm', 'deid', 'parentKey', 'defa')
    attempts_made = not job.err and one_more(job[2])
    local is_plain = attempts_made and job[1] and not (job[3] or job[4] or job[5])
      and not string.find(job[1], 'removeOn', 1, true)
    local keeps_plainly = keep < 0 or keep > 0 and call('ZCARD', completed) <= keep -- then one goes at most
    if not is_plain or not keeps_plainly or keep_default[1][2] or keep_default[3]
      or call('MGET', lock_key)[1] ~= attempt[2] then
      return
    end
  end

  local waiting, next_id, fields, starts = {}, nil, nil, nil
  if request then
    waiting = call('LRANGE', base .. 'wait', -2, -1)
    if waiting[2] and request[1] > 1 then
      return
    end
    next_id = waiting[#waiting]
    if next_id then
      fields = redis.pcall('HGETALL', base .. next_id)
      local counted
      for f = 1, #fields, 2 do
        if fields[f] == 'ats' then
          counted = fields[f + 1]
        end
      end
      starts = one_more(counted)
      if #fields == 0 or not starts or string.find(next_id, '^0:') then
        return
      end
    end
  end

  local events = base .. 'events'
  if attempt then
    if call('LREM', active, -1, id) == 0 then
      return
    end
    call('HSET', key, 'returnvalue', attempt[4], 'finishedOn', now, 'atm', attempts_made)
    call('XADD', events, '*', 'event', 'completed', 'jobId', id, 'returnvalue', attempt[4], 'prev', 'active')
    call('DEL', lock_key)
    call('SREM', base .. 'stalled', id)
    call('ZADD', completed, now, id)
    local old_id = keep > 0 and call('ZREVRANGE', completed, keep, keep)[1]
    if old_id then
      local old = base .. old_id
      call('DEL', old, old .. ':lock', old .. ':logs', old .. ':dependencies', old .. ':processed', old .. ':failed',
        old .. ':unsuccessful')
      call('ZREM', completed, old_id)
    end
  end
  if next_id then
    local next_key, token, lease_ms, worker = base .. next_id, request[2], request[3], request[4]
    call('LTRIM', base .. 'wait', 0, -2)
    call('SET', next_key .. ':lock', token, 'PX', string.format('%.0f', lease_ms))
    call('XADD', events, '*', 'event', 'active', 'jobId', next_id, 'prev', 'waiting')
    if worker then
      call('HSET', next_key, 'processedOn', now, 'ats', starts, 'pb', worker)
    else
      call('HSET', next_key, 'processedOn', now, 'ats', starts)
    end
    call('LPUSH', active, next_id)
    if waiting[2] then
      call('ZADD', base .. 'marker', 0, '0')
    end
  elseif attempt and call('LLEN', active) == 0 and (request or call('EXISTS', base .. 'wait') == 0) then
    call('XADD', events, '*', 'event', 'drained')
  end
  if attempt or next_id then
    call('XTRIM', events, 'MAXLEN', '~', max_events)
  end
  return { attempt and { 0 } or {}, request and { { next_id }, { fields }, -1, -1, 0 } }
end

local settled = settle_lone_job()
if settled then
  return settled
end
