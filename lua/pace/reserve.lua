-- pace/reserve.lua: the next moment at which a bot may send to a chat, and nobody else at the same moment.
-- KEYS     1 bot        string  when the bot may send next, in ms
--          2 chat       string  when it may send to this chat next
-- ARGV     1 bot_ms     between two messages of the bot; may be a fraction
--          2 chat_ms    between two messages to the chat
-- RETURNS  how long to wait, in ms
-- COST     O(1)
local bot, chat = KEYS[1], KEYS[2]
local bot_ms, chat_ms = tonumber(ARGV[1]), tonumber(ARGV[2])

-- Redis's own clock: those of the servers differ, and the one that is ahead would hold up all others.
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + time[2] / 1000

-- A chat that must wait does not hold up the bot's other chats: each takes its own place in the bot's line.
local bot_at = math.max(now_ms, tonumber(redis.call('GET', bot) or 0))
local at = math.max(bot_at, tonumber(redis.call('GET', chat) or 0))
redis.call('SET', bot, string.format('%.3f', bot_at + bot_ms), 'PX', math.ceil(bot_at - now_ms + bot_ms) + 1000)
redis.call('SET', chat, string.format('%.3f', at + chat_ms), 'PX', math.ceil(at - now_ms + chat_ms) + 1000)
return math.ceil(at - now_ms)
