-- queue/trim_events.lua: shorten the event stream to about so many entries.
-- KEYS     1 base  "<prefix>:<queue>:"
-- ARGV     1 keep  entries; Redis removes whole nodes of 100, so some more may stay
--          2 most  at most so many are removed
-- RETURNS  [how many were removed, 0 to go on | -1 nothing is left]
-- COST     O(most)
local removed = redis.call('XTRIM', event_stream, 'MAXLEN', '~', ARGV[1], 'LIMIT', ARGV[2])
return { removed, removed == 0 and -1 or 0 }
