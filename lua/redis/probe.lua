-- redis/probe.lua: which of some commands the present user may not run on a key. Nothing is left of the key.
-- KEYS     1 key
-- ARGV     1 commands  MessagePack [[name, argument or "*key*", ...], ...]: each fails on a text, or does it no harm
-- RETURNS  [name, why it was denied, ...]
-- COST     O(commands)
local key, commands = KEYS[1], cmsgpack.unpack(ARGV[1])
local denied = {}

-- Whether it was refused for lack of rights, and not for the key's type.
local function is_denied(command)
  for i, word in ipairs(command) do
    command[i] = word == '*key*' and key or word
  end
  local answer = redis.pcall(unpack(command))
  local why = type(answer) == 'table' and answer.err
  if not why or not (string.find(why, 'NOPERM', 1, true) or string.find(why, 'ACL failure', 1, true)
    or string.find(why, 'user executing the script', 1, true)) then
    return false
  end
  denied[#denied + 1] = command[1]
  denied[#denied + 1] = why
  return true
end

-- A key that is no text would be changed by what follows, and one that cannot be deleted would stay.
if is_denied({ 'DEL', key }) or is_denied({ 'SET', key, 'a text', 'PX', '1000' }) then
  return denied
end
for _, command in ipairs(commands) do
  if command[1] ~= 'DEL' and command[1] ~= 'UNLINK' and command[1] ~= 'SET' then
    is_denied(command)
  end
end
is_denied({ 'UNLINK', key })
redis.call('DEL', key)
return denied
