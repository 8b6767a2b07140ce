-- queue/children.lua: list a job's children, one page at a time.
-- KEYS     1 base    "<prefix>:<queue>:"
-- ARGV     1 id
--          2 kind    unprocessed | processed | ignored | failed
--          3 cursor  "0" to begin
--          4 page    about how many to list
-- RETURNS  [next cursor or "0", [child's key, its result, reason or nothing, ...]]
-- COST     O(page); a small set comes as a whole
local places = {
  unprocessed = { 'SSCAN', ':dependencies' },
  processed = { 'HSCAN', ':processed' },
  ignored = { 'HSCAN', ':failed' },
  failed = { 'ZSCAN', ':unsuccessful' },
}
local scan, suffix = unpack(places[ARGV[2]])
local found = redis.call(scan, base .. ARGV[1] .. suffix, ARGV[3], 'COUNT', ARGV[4])
local flat, told = {}, ARGV[2] == 'processed' or ARGV[2] == 'ignored'
for i = 1, #found[2], scan == 'SSCAN' and 1 or 2 do
  flat[#flat + 1] = found[2][i]
  flat[#flat + 1] = told and found[2][i + 1] or ''
end
return { found[1], flat }
