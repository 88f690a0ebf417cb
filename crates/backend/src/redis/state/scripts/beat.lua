-- Renews the lease of a node, or takes it. KEYS: nodes, due. ARGV: node, time to live in ms, ttl of keys in ms,
-- 'take' | 'renew'. Answers 1, or 0 if there was none to renew: others hold the node for dead, or all was lost.
if ARGV[4] == 'renew' and not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  return 0
end
redis.call('ZADD', KEYS[1], millis() + tonumber(ARGV[2]), ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return 1
