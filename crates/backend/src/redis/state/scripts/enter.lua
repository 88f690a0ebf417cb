-- Takes leases.
-- KEYS: nodes, scopes of the node, due, then the keys of each scope. ARGV: node, ttl of keys in ms, then for each scope its
-- name, its topic and how many leases, and for each lease: holder, value, capacity or -1, ttl in ms or -1, frame of the news
-- that the member has come, or the lease has begun if its value says that each is told.
-- Answers one digit for each lease: 0 full, 1 held, 2 held and the member's first. 'dead': the node has no lease itself.
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  return 'dead'
end
local now = millis()
local answers = {}
local at, key = 3, 4

local function enter(scope, holder, value, capacity, ttl, joined)
  local held = redis.call('HGET', scope.leases, holder)
  local member = member_of(value)
  if held and member_of(held) ~= member then
    end_lease(scope, holder, held)
    held = false
  end
  local first = false
  if not held then
    first = redis.call('HEXISTS', scope.members, member) == 0
    if first and capacity >= 0 and redis.call('HLEN', scope.members) >= capacity then
      return '0'
    end
    redis.call('HINCRBY', scope.members, member, 1)
  end
  redis.call('HSET', scope.leases, holder, value)
  if ttl >= 0 then
    redis.call('ZADD', scope.ends, now + ttl, holder)
    redis.call('HSET', scope.ttls, holder, digits(ttl))
  elseif held then
    redis.call('ZREM', scope.ends, holder)
    redis.call('HDEL', scope.ttls, holder)
  end
  local _, each = farewell_of(value)
  if first or each and not held then
    publish(scope.topic, joined)
  end
  return first and '2' or '1'
end

while at <= #ARGV do
  local scope = scope_at(key, ARGV[at], ARGV[at + 1])
  local count = tonumber(ARGV[at + 2])
  local ends = purge(scope, now) > 0
  at, key = at + 3, key + 4
  for _ = 1, count do
    local ttl = tonumber(ARGV[at + 3])
    ends = ends or ttl >= 0
    answers[#answers + 1] = enter(scope, ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2]), ttl, ARGV[at + 4])
    at = at + 5
  end
  keep(scope, ARGV[2])
  if ends then
    schedule(KEYS[3], scope)
  end
  redis.call('SADD', KEYS[2], scope.name)
end
redis.call('PEXPIRE', KEYS[2], ARGV[2])
redis.call('PEXPIRE', KEYS[3], ARGV[2])
return table.concat(answers)
