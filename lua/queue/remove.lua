-- queue/remove.lua: remove a job that nobody runs, in whatever state; alone, or with its children and theirs.
-- KEYS     1 base      "<prefix>:<queue>:"
-- ARGV     1 now       ms, for a parent that this sets free
--          2 id
--          3 children  1 to remove them, too; then nobody may run one of them, either
--          4 most      with more descendants it is refused
-- RETURNS  0 removed, 1 there is none, 2 somebody runs it or one of its children, 3 it is a scheduler's present run,
--          4 too many descendants
-- COST     O(waiting), and that again for each descendant in a list
local now, id = tonumber(ARGV[1]), ARGV[2]
local key = base .. id
if redis.call('EXISTS', lock_of(id)) == 1 then
  return 2
elseif is_present_run(id) then
  return 3
end
local descendants = {}
if ARGV[3] == '1' then
  descendants = descendants_of(key, tonumber(ARGV[4]))
  if not descendants then
    return 4
  end
  for _, descendant in ipairs(descendants) do
    if redis.call('EXISTS', descendant .. ':lock') == 1 then
      return 2
    end
  end
end
local job = fields_of(id, 'deid', 'parentKey', 'parent', group_field)
local is_known = redis.call('EXISTS', key) == 1
local previous = take_out(base, id)
if job[4] and grouping().drop(id, job[4]) then
  previous = 'wait'
end
if not is_known and not previous then
  return 1
end
for i = #descendants, 1, -1 do -- children before their parents
  remove_descendant(descendants[i])
end
if job[1] then
  free_deduplication(base, id, job[1])
end
detach_child(id, job[2], job[3], now)
delete_job(id)
emit('removed', 'jobId', id, 'prev', previous or 'unknown')
release_touched(now)
flush_wait()
if previous == 'active' and concurrency then
  work_came = true -- a place is free: somebody who was kept out may come in
end
close_gate()
return 0
