-- queue/claim.lua: take jobs under a token that may have taken before: what it still holds is answered again, renewed.
-- KEYS     1 base     "<prefix>:<queue>:"
-- ARGV     1 now      ms
--          2 request  as in take.lua
-- RETURNS  [as take.lua, 0 taken now | 1 held before: the hashes are as they are now]
-- COST     O(active); as take.lua where the token holds nothing
local request = cmsgpack.unpack(ARGV[2])
local token, lease_ms = request[2], request[3]

local ids, hashes = {}, {}
local active = redis.call('LRANGE', active_list, 0, -1)
for last = #active, 1, -1000 do -- from the tail: in the order in which they were taken
  local keys, first = {}, math.max(1, last - 999)
  for i = last, first, -1 do
    keys[#keys + 1] = lock_of(active[i])
  end
  for k, owner in ipairs(redis.call('MGET', unpack(keys))) do
    if owner == token then
      local id = active[last - k + 1]
      local fields = redis.pcall('HGETALL', base .. id)
      if not fields.err and #fields > 0 then
        ids[#ids + 1], hashes[#hashes + 1] = id, fields
      end
    end
  end
end
if #ids == 0 then
  local taken = take_jobs(request, tonumber(ARGV[1]), any_groups())
  close_gate()
  return { taken, 0 }
end
for _, id in ipairs(ids) do
  redis.call('PEXPIRE', lock_of(id), lease_ms)
end
redis.call('SREM', stalled_set, unpack(ids))
return { { ids, hashes, -1, -1, is_paused and 1 or 0 }, 1 }
