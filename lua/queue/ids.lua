-- queue/ids.lua: list the ids of a state: unfinished in the order in which they will run, finished from the newest.
-- Those that stand in the lines of groups come after the other waiting ones, group by group.
-- KEYS     1 base   "<prefix>:<queue>:"
-- ARGV     1 state  BullMQ's public name
--          2 start  how many to skip
--          3 limit  at most so many
-- RETURNS  ids
-- COST     O(start + limit), and O(groups) where there are any
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
if state == 'waiting' and #ids < limit then
  for _, part in ipairs(part_of_lines(start, limit - #ids)) do
    for _, id in ipairs(part[2]) do
      ids[#ids + 1] = id
    end
  end
end
return ids
