-- cache/look.lua: a page of a list, if Redis has it as new as SQL says it must be; else who is to fill it.
-- KEYS     1 list     hash    "version", and a field for each page
--          2 filling  string  the mark of whoever fills this page
-- ARGV     1 version  what SQL says; a page of a later one is newer still
--          2 page     the field
--          3 token    the caller's mark
--          4 fill_ms  how long a filler is trusted to be at it
-- RETURNS  {"hit", body}, {"fill"} (the caller is to fill it) or {"wait"} (somebody else does)
-- COST     O(1)
local list, filling = KEYS[1], KEYS[2]
local version, page, token, fill_ms = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4]

local known = redis.call('HMGET', list, 'version', page)
if known[1] and known[2] and tonumber(known[1]) >= version then
  return { 'hit', known[2] }
end
if redis.call('SET', filling, token, 'NX', 'PX', fill_ms) then
  return { 'fill' }
end
return { 'wait' }
