-- cache/forget.lua: drops the pages of a list that has changed, and keeps older ones from being put back.
-- KEYS     1 list     hash  "version", and a field for each page
-- ARGV     1 version  of the list now
--          2 keep_ms  how long that is remembered
-- RETURNS  1 dropped, 0 Redis knows that version or a later one already
-- COST     O(pages)
local list = KEYS[1]
local version, keep_ms = tonumber(ARGV[1]), ARGV[2]

if tonumber(redis.call('HGET', list, 'version') or '-1') >= version then
  return 0
end
redis.call('DEL', list)
redis.call('HSET', list, 'version', version)
redis.call('PEXPIRE', list, keep_ms)
return 1
