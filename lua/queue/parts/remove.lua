-- queue/parts/remove.lua: deletes jobs. Needs keys.lua.

-- The job's hash and everything that hangs on it; not its place in a state.
local function delete_job(id)
  local key = base .. id
  redis.call('DEL', key, key .. ':lock', key .. ':logs', key .. ':dependencies', key .. ':processed', key .. ':failed',
    key .. ':unsuccessful')
end

-- A deduplication id that the job owns is free again.
local function free_deduplication(id, deduplication_id)
  local key = base .. 'de:' .. deduplication_id
  if redis.call('GET', key) == id then
    redis.call('DEL', key, base .. 'dn:' .. deduplication_id)
  end
end
