-- queue/add_flow.lua: add a tree of jobs over several queues, all of it or nothing; perhaps under a job that is there.
-- KEYS     1 base    "<prefix>:<queue>:" of the job that it is added under, else of the root
--          2 groups  of the same queue
--          3 ...     the bases of the other queues, each once: in a cluster all must share a slot
-- ARGV     1 now   ms
--          2 jobs  MessagePack, as flow.lua has it, the root first
--          3 over  the id of the job that it is added under, or empty
-- RETURNS  [0 added, 0] | [1 the root is there already, with its children: nothing new was added, 0]
--          | [2 a job with children is there already, its place] | [3 a job has another parent, its place]
--          | [4 there is no such job to add it under, 0] | [5 that job has ended, 0]
--          | [6 a job is waited for by that one, its place]
-- COST     O(log n) a job
local now, jobs = tonumber(ARGV[1]), cmsgpack.unpack(ARGV[2])
local over = ARGV[3] ~= '' and ARGV[3] or nil
local queues = { base, unpack(KEYS, 3) }

local refusal, there = look_at_flow(queues, jobs, over)
if refusal == 1 then
  tell_queue(queues[jobs[1][1]], 'duplicated', 'jobId', jobs[1][2])
end
if refusal > 0 then
  return { refusal, there }
end
add_flow(queues, jobs, over, there, now)
return { there[1] == 'kept' and 1 or 0, 0 }
