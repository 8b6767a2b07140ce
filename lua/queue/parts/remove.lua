-- queue/parts/remove.lua: deletes jobs. Needs keys.lua.

-- The jobs' hashes and everything that hangs on them; not their places in a state. Also for another queue, by its base.
local function delete_jobs_of(queue, ids)
  for first = 1, #ids, 500 do
    local keys = {}
    for i = first, math.min(first + 499, #ids) do
      local key = queue .. ids[i]
      keys[#keys + 1] = key
      for _, part in ipairs({ ':lock', ':logs', ':dependencies', ':processed', ':failed', ':unsuccessful' }) do
        keys[#keys + 1] = key .. part
      end
    end
    redis.call('DEL', unpack(keys))
  end
end

local function delete_jobs(ids)
  delete_jobs_of(base, ids)
end

local function delete_job(id)
  delete_jobs({ id })
end

-- A deduplication id that the job owns is free again. Also for another queue, by its base.
local function free_deduplication(queue, id, deduplication_id)
  local key = queue .. 'de:' .. deduplication_id
  if redis.call('MGET', key)[1] == id then -- for what is no text, MGET says nothing where GET fails
    redis.call('DEL', key, queue .. 'dn:' .. deduplication_id)
  end
end

-- Takes a job out of every state, so that no stale id is left. The first state is returned, by the name of its key.
-- Also for another queue, by its base.
local function take_out(queue, id)
  local previous
  for _, set in ipairs({ 'completed', 'failed', 'delayed', 'prioritized', 'waiting-children' }) do
    if redis.call('ZREM', queue .. set, id) == 1 then
      previous = previous or set
    end
  end
  for _, list in ipairs({ 'active', 'wait', 'paused' }) do
    if not previous and redis.call('LREM', queue .. list, 0, id) > 0 then
      previous = list
    end
  end
  redis.call('SREM', queue .. 'stalled', id)
  return previous
end
