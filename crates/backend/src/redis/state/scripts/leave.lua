-- Gives leases back.
-- KEYS: scopes of the node, then the keys of each scope. ARGV: for each scope its name, its topic, how many holders, and these.
-- Answers one digit for each holder: 1 its member has left with it, 0 not.
local now = millis()
local answers = {}
local at, key = 1, 2
while at <= #ARGV do
  local scope = scope_at(key, ARGV[at], ARGV[at + 1])
  local last = at + 2 + tonumber(ARGV[at + 2])
  purge(scope, now)
  for place = at + 3, last do
    local value = redis.call('HGET', scope.leases, ARGV[place])
    if value and end_lease(scope, ARGV[place], value) then
      answers[#answers + 1] = '1'
    else
      answers[#answers + 1] = '0'
    end
  end
  if redis.call('EXISTS', scope.leases) == 0 then
    redis.call('SREM', KEYS[1], scope.name)
  end
  at, key = last + 1, key + 4
end
return table.concat(answers)
