-- Looks for what has ended. KEYS: nodes, dead, swept, due. ARGV: this node, longest time without a sweep in ms, how long
-- the lease of a node lives in ms, time for one to clear up in ms, ttl of keys in ms, most of each,
-- how long one look is enough for all in ms.
-- Answers {1 if this node has its lease, nodes to clear up after, scopes to purge}; each is given to one caller at a time.
local now = millis()
local most = tonumber(ARGV[6])
local known = redis.call('ZSCORE', KEYS[1], ARGV[1]) and 1 or 0
local before = redis.call('GET', KEYS[3])
local last = tonumber(before or digits(now))
if before and now >= last and now - last < tonumber(ARGV[7]) then
  -- Another node has just looked.
  return {known, {}, {}}
end
redis.call('SET', KEYS[3], digits(now), 'PX', ARGV[5])
if now - last > tonumber(ARGV[2]) then
  -- When nobody was here for a while, Redis was away: those that come back must not find themselves dead.
  for _, node in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
    redis.call('ZADD', KEYS[1], now + tonumber(ARGV[3]), node)
  end
else
  for _, node in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)) do
    if node == ARGV[1] then
      redis.call('ZADD', KEYS[1], now + tonumber(ARGV[3]), node)
    else
      redis.call('ZREM', KEYS[1], node)
      redis.call('ZADD', KEYS[2], now, node)
    end
  end
end
local dead = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, most)
for _, node in ipairs(dead) do
  redis.call('ZADD', KEYS[2], now + tonumber(ARGV[4]), node)
end
if #dead > 0 then
  redis.call('PEXPIRE', KEYS[2], ARGV[5])
end
local due = redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', now, 'LIMIT', 0, most)
for _, name in ipairs(due) do
  redis.call('ZADD', KEYS[4], now + tonumber(ARGV[4]), name)
end
return {known, dead, due}
