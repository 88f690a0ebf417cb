-- Takes tokens out of a bucket, all or none. What is kept is what is missing in it; the key goes when that is nothing.
-- KEYS: bucket. ARGV: capacity, refill, period in microseconds, tokens, longest ttl in ms.
-- Answers {1, left} or {0, microseconds to wait}.
local now = micros()
local capacity, refill, period, tokens = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local stored = redis.call('HMGET', KEYS[1], 'missing', 'at')
local missing, at = tonumber(stored[1] or '0'), tonumber(stored[2] or '0')
-- Nothing is added for a time in which the clock was set back.
missing = math.max(0, missing - math.max(0, now - at) * refill / period)
-- What division loses must not cost a token.
local enough = missing + tokens <= capacity + 0.000001
if enough then
  missing = missing + tokens
end
if (enough and missing > 0) or at > now then
  redis.call('HSET', KEYS[1], 'missing', string.format('%.9f', missing), 'at', digits(now))
  local ttl = math.ceil(missing * period / refill / 1000) + 1
  redis.call('PEXPIRE', KEYS[1], digits(math.min(tonumber(ARGV[5]), ttl)))
end
if enough then
  return {1, digits(math.floor(math.max(0, capacity - missing) + 0.000001))}
end
return {0, digits(math.ceil((missing + tokens - capacity) * period / refill))}
