-- queue/retry_all.lua: let finished jobs wait again, the oldest first. Unlike BullMQ's, they keep their priorities.
-- KEYS     1 base   "<prefix>:<queue>:"
-- ARGV     1 state  completed | failed
--          2 until  ms: only those that had finished by then, so that one that fails again is not retried without end
--          3 most   at most so many
-- RETURNS  [how many wait now, 0 to go on | -1 nothing is left]
-- COST     O(most * log n)
local state, most = ARGV[1], tonumber(ARGV[3])
local ids = redis.call('ZRANGEBYSCORE', base .. state, '-inf', ARGV[2], 'LIMIT', 0, most)
if #ids == 0 then
  return { 0, -1 }
end
redis.call('ZREM', base .. state, unpack(ids))
local retried = 0
for _, id in ipairs(ids) do
  if is_job(id) then
    retry_job(id, state, false)
    retried = retried + 1
  end
end
release_touched()
flush_wait()
close_gate()
return { retried, #ids < most and -1 or 0 }
