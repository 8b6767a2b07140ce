-- queue/parts/endings.lua: what finish.lua and the parts before it offer, where they are made only when they are needed.
return {
  complete = complete_job, fail = fail_job, options_of = options_of, prune = prune_finished, stacks_with = stacks_with,
  look_at_flow = look_at_flow, add_flow = add_flow,
  -- The default is applied to `set` at the end.
  keep_by_default = function(set, default)
    prunings[set][policy_of(default[1], default[2], default[3])] = true
  end,
}
