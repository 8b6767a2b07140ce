-- queue/parts/remove.lua: deletes jobs. Needs keys.lua.

-- The jobs' hashes and everything that hangs on them; not their places in a state.
local function delete_jobs(ids)
  for first = 1, #ids, 500 do
    local keys = {}
    for i = first, math.min(first + 499, #ids) do
      local key = base .. ids[i]
      keys[#keys + 1] = key
      for _, part in ipairs({ ':lock', ':logs', ':dependencies', ':processed', ':failed', ':unsuccessful' }) do
        keys[#keys + 1] = key .. part
      end
    end
    redis.call('DEL', unpack(keys))
  end
end

local function delete_job(id)
  delete_jobs({ id })
end

-- A deduplication id that the job owns is free again.
local function free_deduplication(id, deduplication_id)
  local key = base .. 'de:' .. deduplication_id
  if redis.call('GET', key) == id then
    redis.call('DEL', key, base .. 'dn:' .. deduplication_id)
  end
end
