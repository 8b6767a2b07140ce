-- queue/parts/family.lua: a job's children and theirs. Needs remove.lua and parent.lua.

-- Every child of `parent_key`, whatever became of it; nil if there are more than `most`.
local function children_of(parent_key, most)
  local count = redis.call('SCARD', parent_key .. ':dependencies') + redis.call('HLEN', parent_key .. ':processed')
    + redis.call('HLEN', parent_key .. ':failed') + redis.call('ZCARD', parent_key .. ':unsuccessful')
  if count > most then
    return nil
  end
  local children = redis.call('SMEMBERS', parent_key .. ':dependencies')
  for _, more in ipairs({
    redis.call('HKEYS', parent_key .. ':processed'), redis.call('HKEYS', parent_key .. ':failed'),
    redis.call('ZRANGE', parent_key .. ':unsuccessful', 0, -1),
  }) do
    for _, child in ipairs(more) do
      children[#children + 1] = child
    end
  end
  return children
end

-- The keys of all descendants, parents before their children: nil if there are more than `most`. A job that has been
-- given to another parent, or made anew without one, is none.
local function descendants_of(key, most)
  local parents, seen, at = { key }, { [key] = true }, 1
  while parents[at] do
    local children = children_of(parents[at], most - #parents + 1)
    if not children then
      return nil
    end
    for _, child in ipairs(children) do
      if not seen[child] and redis.call('HGET', child, 'parentKey') == parents[at] then
        seen[child] = true
        parents[#parents + 1] = child
      end
    end
    at = at + 1
  end
  table.remove(parents, 1)
  return parents
end

-- Removes a descendant: whom it would set free is removed as well.
local function remove_descendant(key)
  local queue, id = string.match(key, '^(.*:)([^:]*)$')
  if string.sub(key, 1, #base) == base then
    queue, id = base, string.sub(key, #base + 1) -- the id may hold a colon
  end
  local deduplication_id = redis.call('HGET', key, 'deid')
  if deduplication_id then
    free_deduplication(queue, id, deduplication_id)
  end
  local previous = take_out(queue, id)
  local group = queue == base and redis.call('HGET', key, group_field)
  if group and grouping().drop(id, group) then
    previous = 'wait'
  end
  delete_jobs_of(queue, { id })
  tell_queue(queue, 'removed', 'jobId', id, 'prev', previous or 'unknown')
end
