-- queue/ids.lua: list the ids of a state: unfinished in the order in which they will run, finished from the newest.
-- KEYS     1 base   "<prefix>:<queue>:"
-- ARGV     1 state  BullMQ's public name
--          2 start  how many to skip
--          3 limit  at most so many
-- RETURNS  ids
-- COST     O(start + limit)
local state, start, limit = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
if limit == 0 then
  return {}
end
if state == 'completed' or state == 'failed' then
  return redis.call('ZREVRANGE', base .. state, start, start + limit - 1)
elseif state ~= 'waiting' and state ~= 'active' then
  return redis.call('ZRANGE', base .. state, start, start + limit - 1)
end
-- Lists run from the tail.
local ids = {}
for _, list in ipairs(state == 'active' and { active_list } or { wait_list, paused_list }) do
  local part = redis.call('LRANGE', list, -(start + limit - #ids), -(start + 1))
  for i = #part, 1, -1 do
    ids[#ids + 1] = part[i]
  end
  start = math.max(0, start - redis.call('LLEN', list))
  if #ids >= limit then
    break
  end
end
return ids
