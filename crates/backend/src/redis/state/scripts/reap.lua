-- Ends the leases of a dead node in a part of a scope. KEYS: those of the scope. ARGV: its name, its topic, the node, where
-- to begin, how many to look at. Answers {where to go on, or 0; how many have ended}.
local scope = scope_at(1, ARGV[1], ARGV[2])
local page = redis.call('HSCAN', scope.leases, ARGV[4], 'COUNT', ARGV[5])
local found, ended = page[2], 0
for place = 1, #found, 2 do
  local holder, value = found[place], found[place + 1]
  -- A page may show a holder twice.
  if node_of(value) == ARGV[3] and redis.call('HEXISTS', scope.leases, holder) == 1 then
    end_lease(scope, holder, value)
    ended = ended + 1
  end
end
return {page[1], ended}
