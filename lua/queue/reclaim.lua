-- queue/reclaim.lua: put back to the front what a worker holds without knowing, after a take whose answer was lost.
-- KEYS     1 base   "<prefix>:<queue>:"
-- ARGV     1 owner  how the worker's tokens begin
--          2 held   MessagePack [[id, token], ...]: what the worker knows of
-- RETURNS  the ids put back
-- COST     O(active); O(active) again for each id put back
local held = {}
for _, hold in ipairs(cmsgpack.unpack(ARGV[2])) do
  held[hold[1] .. ' ' .. hold[2]] = true -- an id may be there twice: an attempt that lost it, and the next
end
local owner = ARGV[1]
local reclaimed = {}
-- From the newest, so that the one to run first is put back last, to the very front.
for _, id in ipairs(redis.call('LRANGE', active_list, 0, -1)) do
  local token = redis.call('MGET', lock_of(id))[1] -- where something else stands, GET would stop half way
  if token and not held[id .. ' ' .. token] and string.sub(token, 1, #owner) == owner then
    redis.call('LREM', active_list, 1, id)
    redis.call('DEL', lock_of(id))
    redis.call('SREM', stalled_set, id)
    local stored = fields_of(id, 'priority', group_field, 'ats')
    local starts = number_of(stored[3])
    if starts > 0 then
      redis.call('HSET', base .. id, 'ats', texts[starts - 1]) -- it was not started
    end
    if starts <= 1 then
      redis.call('HDEL', base .. id, 'processedOn', 'pb')
    end
    push_front(id, not stored[2] and number_of(stored[1]) or 0)
    emit('waiting', 'jobId', id, 'prev', 'active')
    reclaimed[#reclaimed + 1] = id
  end
end
flush_wait()
close_gate()
return reclaimed
