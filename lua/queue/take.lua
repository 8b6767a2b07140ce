-- queue/take.lua: take jobs to run them: promote what is due, then move ready jobs to active and lock them.
-- KEYS     1 base     "<prefix>:<queue>:"
-- ARGV     1 now      ms
--          2 request  MessagePack [most, token, lease_ms, worker name or nil, rate max or nil, rate ms or nil, places]
-- RETURNS  [[id, ...], [its flat hash before it was taken, ...], next due ms or -1, rate limited for ms or -1, 1 if paused]
-- COST     O(jobs taken and promoted), O(log n) for each delayed and prioritized one
local taken = take_jobs(cmsgpack.unpack(ARGV[2]), tonumber(ARGV[1]), any_groups())
close_gate()
return taken
