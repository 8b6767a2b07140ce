-- queue/drain.lua: remove jobs that wait. The runs that schedulers wait for stay: without them, schedules end.
-- KEYS     1 base     "<prefix>:<queue>:"
-- ARGV     1 now      ms, for a parent that this sets free
--          2 most     at most so many
--          3 delayed  1 to remove delayed jobs as well
-- RETURNS  [how many were removed, 0 to go on | -1 nothing is left]
-- COST     O(most * log n), and O(groups) where there are any
local now, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local farthest = 16 * most -- how far to look behind runs that stay
local removed = 0

local function wants(id)
  return not is_present_run(id)
end

-- look(offset, most): sweeps a window.
local function drain(look)
  local offset = 0
  while removed < most and offset < farthest do
    local erased, kept = look(offset, most - removed)
    if erased + kept == 0 then
      return
    end
    removed, offset = removed + erased, offset + kept
  end
end

-- The lines first: who is let out of them meanwhile is found in `wait`.
drain(function(offset, room)
  return sweep_lines(offset, room, wants, now)
end)
for _, list in ipairs({ wait_list, paused_list }) do
  drain(function(offset, room)
    return sweep_list(list, offset, room, wants, now)
  end)
end
for _, set in ipairs(ARGV[3] == '1' and { prioritized_set, delayed_set } or { prioritized_set }) do
  drain(function(offset, room)
    return sweep_set(set, redis.call('ZRANGE', set, offset, offset + room - 1), wants, now)
  end)
end
release_touched(now)
flush_wait()
close_gate()
return { removed, removed < most and -1 or 0 }
