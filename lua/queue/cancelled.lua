-- queue/cancelled.lua: which of the jobs that a worker runs are to be stopped, and why.
-- KEYS     1 base  "<prefix>:<queue>:"
-- ARGV     1 ids   MessagePack
-- RETURNS  [[id, reason], ...]
-- COST     O(1) a job
local cancelled = {}
for _, id in ipairs(cmsgpack.unpack(ARGV[1])) do
  local job = redis.call('HMGET', base .. id, 'onetake-cancelled', 'processedOn', 'ats')
  local start, reason = string.match(job[1] or '', '^(%S+) (.*)$')
  if start and start == (job[2] or '') .. '-' .. (job[3] or '') then
    cancelled[#cancelled + 1] = { id, reason }
  end
end
return cancelled
