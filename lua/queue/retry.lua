-- queue/retry.lua: let a finished job wait again, with its priority.
-- KEYS     1 base   "<prefix>:<queue>:"
-- ARGV     1 id
--          2 state  completed | failed; empty for either
--          3 anew   1 to count its attempts from 0
-- RETURNS  0 it waits, 1 there is none, 2 it is not in that state
-- COST     O(log n)
local id, wanted = ARGV[1], ARGV[2]
if not is_job(id) then
  return 1
end
for _, state in ipairs(wanted == '' and { 'completed', 'failed' } or { wanted }) do
  if redis.call('ZREM', base .. state, id) == 1 then
    retry_job(id, state, ARGV[3] == '1')
    release_touched()
    flush_wait()
    close_gate()
    return 0
  end
end
return 2
