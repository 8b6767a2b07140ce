-- queue/parts/sweep.lua: removes many jobs of one state without telling each. Needs groups.lua, remove.lua,
-- parent.lua and lines.lua.

-- A parent in this queue goes with its last child, and so on upwards: so BullMQ. One in another queue is set free.
local function drop_child(id, parent_key, parent_json, now)
  while parent_key and redis.call('SREM', parent_key .. ':dependencies', base .. id) == 1
    and redis.call('EXISTS', parent_key .. ':dependencies') == 0 do
    local queue, parent_id = parent_of(parent_key, parent_json)
    if not queue then
      return
    elseif queue ~= base then
      return release_parent(queue, parent_id, now)
    elseif redis.call('ZREM', parked_set, parent_id) == 0 then
      return
    end
    local parent = redis.call('HMGET', parent_key, 'parentKey', 'parent', 'deid')
    if parent[3] then
      free_deduplication(base, parent_id, parent[3])
    end
    delete_job(parent_id)
    id, parent_key, parent_json = parent_id, parent[1], parent[2]
  end
end

-- The caller takes the ids out of their state.
local function erase_jobs(ids, now)
  for _, id in ipairs(ids) do
    local job = fields_of(id, 'deid', 'parentKey', 'parent', group_field)
    if job[1] then
      free_deduplication(base, id, job[1])
    end
    if job[4] then
      grouping().drop(id, job[4])
    end
    pcall(drop_child, id, job[2], job[3], now) -- as with detach_child
  end
  delete_jobs(ids)
end

-- Erases those of `ids`, all of them in the sorted set, that `wants` wants. Returns how many, and how many stay.
local function sweep_set(set, ids, wants, now)
  local erased = {}
  for _, id in ipairs(ids) do
    if wants(id) then
      erased[#erased + 1] = id
    end
  end
  if #erased > 0 then
    redis.call('ZREM', set, unpack(erased))
  end
  erase_jobs(erased, now)
  return #erased, #ids - #erased
end

-- The same for the `most` ids of a list that stand before the last `offset`: lists run from the tail.
local function sweep_list(list, offset, most, wants, now)
  local ids, erased = redis.call('LRANGE', list, -(offset + most), -(offset + 1)), {}
  for i = #ids, 1, -1 do
    if wants(ids[i]) then
      erased[#erased + 1] = ids[i]
      redis.call('LSET', list, -(offset + #ids - i + 1), '') -- no job has this id
    end
  end
  if #erased > 0 then
    redis.call('LREM', list, -#erased, '') -- all at once: one by one, each would be searched for
  end
  erase_jobs(erased, now)
  return #erased, #ids - #erased
end

-- The same for the lines of all groups, one after the other: the `most` ids behind the first `offset`.
local function sweep_lines(offset, most, wants, now)
  local count, seen = 0, 0
  for _, part in ipairs(part_of_lines(offset, most)) do
    local group, erased = part[1], {}
    for _, id in ipairs(part[2]) do
      if wants(id) then
        erased[#erased + 1] = id
      end
    end
    if #erased > 0 then
      grouping().shorten_line(group, erased)
      grouping().touch(group)
    end
    erase_jobs(erased, now)
    count, seen = count + #erased, seen + #part[2]
  end
  return count, seen - count
end
