-- queue/parts/lines.lua: the lines of all groups, one after the other. Needs keys.lua.

-- Who stands in them behind the first `start`, at most `limit`: [[group, ids], ...]. Each group before them costs a look.
local function part_of_lines(start, limit)
  local found, after = {}, '-'
  while limit > 0 do
    local page = redis.call('ZRANGEBYLEX', groups .. 'known', after, '+', 'LIMIT', 0, 1000)
    for _, group in ipairs(page) do
      local line = groups .. 'line:' .. group
      local length = redis.call('ZCARD', line)
      if start >= length then
        start = start - length
      elseif limit > 0 then
        local ids = redis.call('ZRANGE', line, start, start + limit - 1)
        found[#found + 1] = { group, ids }
        start, limit = 0, limit - #ids
      end
    end
    if #page < 1000 then
      break
    end
    after = '(' .. page[#page]
  end
  return found
end
