-- Ends the leases of a scope whose own time is over. KEYS: due, those of the scope. ARGV: its name, its topic.
-- Answers how many have ended.
local scope = scope_at(2, ARGV[1], ARGV[2])
local ended = purge(scope, millis())
schedule(KEYS[1], scope)
return ended
