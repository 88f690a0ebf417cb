-- Renews the lease of a node, or takes it. KEYS: nodes, dead, due. ARGV: node, time to live in ms, ttl of keys in ms,
-- 'take' | 'renew', the name that it had before or nothing. Answers 1, or 0 if there was none to renew: others hold the
-- node for dead, or all was lost.
if ARGV[4] == 'renew' and not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  return 0
end
local later = millis() + tonumber(ARGV[2])
redis.call('ZADD', KEYS[1], later, ARGV[1])
if ARGV[5] ~= '' then
  -- What it does not take anew until then has ended.
  redis.call('ZREM', KEYS[1], ARGV[5])
  redis.call('ZADD', KEYS[2], later, ARGV[5])
  redis.call('PEXPIRE', KEYS[2], ARGV[3])
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PEXPIRE', KEYS[3], ARGV[3])
return 1
