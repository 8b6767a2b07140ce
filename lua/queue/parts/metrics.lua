-- queue/parts/metrics.lua: counts ended jobs by the minute, as BullMQ's getMetrics() reads them. Needs keys.lua.

-- Once a call, after its jobs have ended. Nothing is counted without `most`: so many points are kept, the newest first.
local function count_all_ended(completed, failed, most, now)
  if not most then
    return
  end

  -- `ended` jobs of this call were `kind` (completed | failed). The present minute is told with the first job that ends
  -- after it; minutes in which nothing ended are zeros.
  local function count_ended(kind, ended)
    local totals = base .. 'metrics:' .. kind
    local points = totals .. ':data'
    local before = redis.call('HINCRBY', totals, 'count', ended) - ended
    local previous = redis.call('HMGET', totals, 'prevTS', 'prevCount')
    if not previous[1] then
      redis.call('HSET', totals, 'prevTS', string.format('%.0f', now), 'prevCount', '0')
      return
    end
    local minutes = math.floor(now / 60000) - math.floor((tonumber(previous[1]) or now) / 60000)
    minutes = math.min(minutes, most)
    if minutes <= 0 then
      return
    end
    redis.call('LPUSH', points, before - (tonumber(previous[2]) or 0))
    local zeros = {}
    for at = 1, minutes - 1 do
      zeros[#zeros + 1] = '0'
      if #zeros == 5000 or at == minutes - 1 then
        redis.call('LPUSH', points, unpack(zeros))
        zeros = {}
      end
    end
    redis.call('LTRIM', points, 0, most - 1)
    redis.call('HSET', totals, 'prevTS', string.format('%.0f', now), 'prevCount', string.format('%.0f', before))
  end

  if completed > 0 then
    count_ended('completed', completed)
  end
  if failed > 0 then
    count_ended('failed', failed)
  end
end
