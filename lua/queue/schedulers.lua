-- queue/schedulers.lua: a page of the schedulers, the one whose run is due first at the front.
-- KEYS     1 base   "<prefix>:<queue>:"
-- ARGV     1 start  how many to skip
--          2 limit  at most so many
-- RETURNS  [how many there are, [[id, due of its run, flat hash], ...]]; an entry without a hash is passed over
-- COST     O(limit)
local start, limit = tonumber(ARGV[1]), tonumber(ARGV[2])
local page = limit > 0 and redis.call('ZRANGE', schedulers_set, start, start + limit - 1, 'WITHSCORES') or {}
local schedulers = {}
for i = 1, #page, 2 do
  local fields = redis.pcall('HGETALL', scheduler_hash(page[i]))
  if not fields.err and #fields > 0 then
    schedulers[#schedulers + 1] = { page[i], texts[number_of(page[i + 1])], fields }
  end
end
return { redis.call('ZCARD', schedulers_set), schedulers }
