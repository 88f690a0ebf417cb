-- Keeps scopes for a node that is in them, and forgets those that are gone. KEYS: scopes of the node, then the keys of each
-- scope. ARGV: ttl of keys in ms, then the names of the scopes.
local key = 2
for place = 2, #ARGV do
  local scope = scope_at(key, ARGV[place], '')
  if redis.call('EXISTS', scope.leases) == 1 then
    keep(scope, ARGV[1])
  else
    redis.call('SREM', KEYS[1], scope.name)
  end
  key = key + 4
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
