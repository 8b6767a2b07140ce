-- queue/results.lua: what the children of a job left for it, those that have ended.
-- KEYS     1 base  "<prefix>:<queue>:"
-- ARGV     1 id
--          2 most        children
--          3 most_bytes  of results and reasons
-- RETURNS  [[child's key, its result, ...], [key of a child that failed and was ignored, why, ...]], or nil: there is more
-- COST     O(children)
local places = { base .. ARGV[1] .. ':processed', base .. ARGV[1] .. ':failed' }
local count, bytes, told = 0, 0, {}
for _, place in ipairs(places) do
  count = count + redis.call('HLEN', place)
end
if count > tonumber(ARGV[2]) then
  return false
end
for i, place in ipairs(places) do
  local flat = {}
  for _, child in ipairs(redis.call('HKEYS', place)) do
    local left = redis.call('HGET', place, child)
    bytes = bytes + #left
    if bytes > tonumber(ARGV[3]) then
      return false
    end
    flat[#flat + 1], flat[#flat + 2] = child, left
  end
  told[i] = flat
end
return told
