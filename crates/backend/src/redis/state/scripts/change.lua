-- Changes an object if it is as expected, and tells its channel.
-- KEYS: object, floor. ARGV: 'any' | 'none' | version; 'set' | 'remove'; value; ttl in ms; topic; head of the news.
-- Answers {1, version, at} or {0[, value, version, at]}.
-- An object that was removed leaves its version behind for as long as the ttl says.
local now = micros()
local stored = redis.call('HMGET', KEYS[1], 'value', 'version', 'at')
local there = stored[1]
local fits = ARGV[1] == 'any'
  or (ARGV[1] == 'none' and not there)
  or (there and stored[2] == ARGV[1])
if not fits then
  if there then
    return {0, stored[1], stored[2], stored[3]}
  end
  return {0}
end
local last = tonumber(stored[2] or redis.call('GET', KEYS[2]) or '0')
local version = math.max(now, last + 1)
local at = digits(math.floor(now / 1000))
local value = 'null'
if ARGV[2] == 'set' then
  value = ARGV[3]
  redis.call('HSET', KEYS[1], 'value', value, 'version', digits(version), 'at', at)
else
  redis.call('HDEL', KEYS[1], 'value')
  redis.call('HSET', KEYS[1], 'version', digits(version), 'at', at)
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
raise_floor(KEYS[2], version, now)
if ARGV[5] ~= '' then
  publish(ARGV[5], ARGV[6] .. '{"version":' .. digits(version) .. ',"at":' .. at .. ',"value":' .. value .. '}')
end
return {1, digits(version), at}
