-- queue/prune_parked_ghosts.lua: remove parked ids without a job, one page at a time.
-- KEYS     1 base    "<prefix>:<queue>:"
-- ARGV     1 cursor  "0" to begin
--          2 page    about how many to look at
-- RETURNS  [next cursor or "0", how many were removed]
-- COST     O(page)
local page = redis.call('ZSCAN', parked_set, ARGV[1], 'COUNT', ARGV[2])
local removed = 0
for i = 1, #page[2], 2 do
  local id = page[2][i]
  if redis.call('EXISTS', base .. id) == 0 then
    removed = removed + redis.call('ZREM', parked_set, id)
  end
end
return { page[1], removed }
