-- Counts a scope. KEYS: those of the scope. ARGV: its name, its topic. Answers {holders, members}.
local scope = scope_at(1, ARGV[1], ARGV[2])
purge(scope, millis())
return {redis.call('HLEN', scope.leases), redis.call('HLEN', scope.members)}
