-- queue/look_at_parked.lua: who waits in waiting-children, one page at a time; ids without a job are removed.
-- KEYS     1 base        "<prefix>:<queue>:"
-- ARGV     1 cursor      "0" to begin
--          2 page        about how many to look at
--          3 mark field  of jobs that were parked without children
-- RETURNS  [next cursor or "0", how many were removed, [[id, timestamp, its mark], ...]: those with a mark]
-- COST     O(page)
local page = redis.call('ZSCAN', parked_set, ARGV[1], 'COUNT', ARGV[2])
local removed, marked = 0, {}
for i = 1, #page[2], 2 do
  local id = page[2][i]
  local stored = fields_of(id, 'timestamp', ARGV[3])
  if stored[1] and stored[2] then
    marked[#marked + 1] = { id, stored[1], stored[2] }
  elseif redis.call('EXISTS', base .. id) == 0 then
    removed = removed + redis.call('ZREM', parked_set, id)
  end
end
return { page[1], removed, marked }
