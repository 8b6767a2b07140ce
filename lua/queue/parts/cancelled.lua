-- queue/parts/cancelled.lua: whether a job that is being worked on was cancelled. Needs keys.lua.

-- The reason, or nil. The mark names the start that it concerns: a job that was let go and taken again has another one, and
-- whoever took it has seen that it is to fail.
local function reason_to_stop(id)
  local job = fields_of(id, 'onetake-cancelled', 'processedOn', 'ats')
  local start, reason = string.match(job[1] or '', '^(%S+) (.*)$')
  if start and start == (job[2] or '') .. '-' .. (job[3] or '') then
    return reason
  end
end
