-- lock/look.lua: what Redis knows of a lease, before SQL is asked.
-- KEYS     1 mirror    hash  the lease as SQL granted it last
-- RETURNS  Redis's time in ms; and if somebody holds the lease: for how long still in ms, holder, request, note, token
-- COST     O(1)
local mirror = KEYS[1]
local time = redis.call('TIME')
local now_ms = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))

local left_ms = redis.call('PTTL', mirror)
-- A key without an end is none of ours: it must not block for ever.
if left_ms <= 0 then
  return {now_ms}
end
local known = redis.call('HMGET', mirror, 'holder', 'request', 'note', 'token', 'released')
if known[5] then
  return {now_ms}
end
return {now_ms, left_ms, known[1] or '', known[2] or '', known[3] or '', known[4] or '0'}
