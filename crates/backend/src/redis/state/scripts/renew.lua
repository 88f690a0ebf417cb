-- Renews leases, also those whose time is over if nobody has ended them yet: then nobody was told either.
-- KEYS: the keys of each scope. ARGV: for each scope its name, its topic, how many holders, and these.
-- Answers one digit for each holder: 1 it is still there, 0 it is gone.
local now = millis()
local answers = {}
local at, key = 1, 1
while at <= #ARGV do
  local scope = scope_at(key, ARGV[at], ARGV[at + 1])
  local last = at + 2 + tonumber(ARGV[at + 2])
  local ttls = redis.call('HMGET', scope.ttls, unpack(ARGV, at + 3, last))
  local ends = {}
  for place = 1, last - at - 2 do
    local holder = ARGV[at + 2 + place]
    if ttls[place] then
      ends[#ends + 1] = now + ttls[place]
      ends[#ends + 1] = holder
      answers[#answers + 1] = '1'
    else
      answers[#answers + 1] = redis.call('HEXISTS', scope.leases, holder)
    end
  end
  if #ends > 0 then
    redis.call('ZADD', scope.ends, 'XX', unpack(ends))
  end
  at, key = last + 1, key + 4
end
return table.concat(answers)
