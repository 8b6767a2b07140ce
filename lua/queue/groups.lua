-- queue/groups.lua: a page of the groups that have jobs or settings, by their ids.
-- KEYS     1 base    "<prefix>:<queue>:"
--          2 groups  "<namespace>:groups:<base>"
-- ARGV     1 after   the last id of the page before; empty to begin
--          2 limit   at most so many
--          3 only    a group's id, for that one alone; empty for a page
-- RETURNS  [[id, waiting in line, released and not ended, of these not taken, paused, concurrency, max, duration (own
--          settings, each nil if not set), held until or nil], ...]
-- COST     O(limit)
local function describe(group)
  local own = redis.call('HMGET', groups .. 'settings:' .. group, 'paused', 'concurrency', 'max', 'duration')
  return {
    group,
    redis.call('ZCARD', groups .. 'line:' .. group),
    tonumber(redis.call('HGET', groups .. 'running', group) or nil) or 0,
    redis.call('HLEN', groups .. 'ahead:' .. group),
    own[1], own[2], own[3], own[4],
    redis.call('ZSCORE', groups .. 'held', group),
  }
end

if ARGV[3] ~= '' then
  return { describe(ARGV[3]) }
end
local page, after = {}, ARGV[1] == '' and '-' or '(' .. ARGV[1]
for i, group in ipairs(redis.call('ZRANGEBYLEX', groups .. 'known', after, '+', 'LIMIT', 0, ARGV[2])) do
  page[i] = describe(group)
end
return page
