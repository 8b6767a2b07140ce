-- cache/fill.lua: keeps a page that was read from SQL, unless Redis knows of a later version of its list.
-- KEYS     1 list        hash    "version", and a field for each page
--          2 filling     string  the mark of whoever fills this page
-- ARGV     1 version     as of which the page was read, at least
--          2 page        the field
--          3 body        the page
--          4 token       the caller's mark
--          5 keep_ms     how long the list is kept
--          6 most_pages  of one list; where there are more, all are dropped first
-- RETURNS  1 kept, 0 refused: the list has changed since
-- COST     O(pages)
local list, filling = KEYS[1], KEYS[2]
local version, page, body, token = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4]
local keep_ms, most_pages = ARGV[5], tonumber(ARGV[6])

local known = tonumber(redis.call('HGET', list, 'version') or '-1')
local is_old = known > version
local is_full = redis.call('HLEN', list) > most_pages
local is_mine = redis.call('GET', filling) == token

if is_mine then
  redis.call('DEL', filling)
end
if is_old then
  return 0
end
if known < version or is_full then
  redis.call('DEL', list)
end
redis.call('HSET', list, 'version', version, page, body)
redis.call('PEXPIRE', list, keep_ms)
return 1
