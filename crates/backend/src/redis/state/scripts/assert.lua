-- Puts an object back unless a newer one is there. Answers the version that is there now.
-- KEYS: object, floor. ARGV: value, version, at, ttl in ms.
local now = micros()
local stored = redis.call('HGET', KEYS[1], 'version')
local version = tonumber(ARGV[2])
if stored and tonumber(stored) > version then
  return stored
end
redis.call('HSET', KEYS[1], 'value', ARGV[1], 'version', ARGV[2], 'at', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
raise_floor(KEYS[2], version, now)
return ARGV[2]
