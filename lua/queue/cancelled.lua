-- queue/cancelled.lua: which of the jobs that a worker runs are to be stopped, and why.
-- KEYS     1 base  "<prefix>:<queue>:"
-- ARGV     1 ids   MessagePack
-- RETURNS  [[id, reason], ...]
-- COST     O(1) a job
local cancelled = {}
for _, id in ipairs(cmsgpack.unpack(ARGV[1])) do
  local job = redis.call('HMGET', base .. id, 'onetake-cancelled', 'ats')
  local attempt, reason = string.match(job[1] or '', '^(%S+) (.*)$')
  if attempt and attempt == job[2] then
    cancelled[#cancelled + 1] = { id, reason }
  end
end
return cancelled
