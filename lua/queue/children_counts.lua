-- queue/children_counts.lua: how many children a job has, by what became of them.
-- KEYS     1 base  "<prefix>:<queue>:"
-- ARGV     1 id
-- RETURNS  [unprocessed, processed, ignored, failed]
-- COST     O(1)
local key = base .. ARGV[1]

-- Something else may stand under a key that looks like ours: then there are none.
local function count(command, suffix)
  local found = redis.pcall(command, key .. suffix)
  return type(found) == 'number' and found or 0
end

return {
  count('SCARD', ':dependencies'), count('HLEN', ':processed'), count('HLEN', ':failed'),
  count('ZCARD', ':unsuccessful'),
}
