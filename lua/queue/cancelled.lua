-- queue/cancelled.lua: which of the jobs that a worker runs are to be stopped, and why.
-- KEYS     1 base  "<prefix>:<queue>:"
-- ARGV     1 ids   MessagePack
-- RETURNS  [[id, reason], ...]
-- COST     O(1) a job
local cancelled = {}
for _, id in ipairs(cmsgpack.unpack(ARGV[1])) do
  local reason = reason_to_stop(id)
  if reason then
    cancelled[#cancelled + 1] = { id, reason }
  end
end
return cancelled
