-- queue/parts/options.lua: reads a job's options.
local decoded_options = {} -- jobs of one batch mostly have the same text

local function options_of(text)
  text = text or '{}'
  local options = decoded_options[text]
  if not options then
    local readable, decoded = pcall(cjson.decode, text)
    options = readable and type(decoded) == 'table' and decoded or {}
    decoded_options[text] = options
  end
  return options
end
