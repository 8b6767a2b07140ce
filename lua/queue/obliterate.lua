-- queue/obliterate.lua: remove a paused queue with everything in it, also parents that wait for children.
-- KEYS     1 base   "<prefix>:<queue>:"
-- ARGV     1 now    ms, for a parent elsewhere that this sets free
--          2 most   at most so many jobs
--          3 force  1: also while jobs are active; who runs them will find that they lost them
-- RETURNS  [how many jobs were removed, 0 to go on | -1 nothing is left | -2 refused: not paused | -3 refused: active]
-- COST     O(most * log n)
local now, most = tonumber(ARGV[1]), tonumber(ARGV[2])
if not is_paused then
  return { 0, -2 }
elseif ARGV[3] ~= '1' and redis.call('LLEN', active_list) > 0 then
  return { 0, -3 }
end
local room = most

local function wants()
  return true
end

room = room - sweep_lines(0, room, wants, now)
for _, list in ipairs({ active_list, wait_list, paused_list }) do
  if room > 0 then
    room = room - sweep_list(list, 0, room, wants, now)
  end
end
for _, set in ipairs({ prioritized_set, delayed_set, parked_set, completed_set, failed_set }) do
  if room > 0 then
    room = room - sweep_set(set, redis.call('ZRANGE', set, 0, room - 1), wants, now)
  end
end
local removed = most - room
if room > 0 then
  local schedulers = redis.call('ZRANGE', base .. 'repeat', 0, room - 1)
  for _, scheduler in ipairs(schedulers) do
    redis.call('DEL', base .. 'repeat:' .. scheduler)
    redis.call('ZREM', base .. 'repeat', scheduler)
  end
  room = room - #schedulers
end
if room > 0 then
  local known = redis.call('ZRANGE', groups .. 'known', 0, room - 1)
  for _, group in ipairs(known) do
    redis.call('DEL', group_key('line', group), group_key('ahead', group), group_key('window', group),
      group_key('settings', group))
    redis.call('ZREM', groups .. 'known', group)
  end
  room = room - #known
end
if room == 0 then
  return { removed, 0 }
end
redis.call('DEL', groups .. 'released', groups .. 'running', groups .. 'held', groups .. 'waiting', groups .. 'turn',
  groups .. 'tender')
for _, suffix in ipairs({
  'events', 'stalled', 'stalled-check', 'id', 'pc', 'marker', 'meta', 'limiter', 'metrics:completed',
  'metrics:completed:data', 'metrics:failed', 'metrics:failed:data',
}) do
  redis.call('UNLINK', base .. suffix)
end
return { removed, -1 }
