-- What all scripts of the state share; stands before each of them.
--
-- A scope of leases has four keys, all of one hash tag:
--   leases   holder -> node (16 bytes) | length u32 | member | length u32 | info | frame of news for when the member leaves;
--            for when the lease ends, if the highest bit of the second length is set
--   members  member -> how many leases it has
--   ends     holder by the moment in which its lease ends, of those that have a time to live of their own
--   ttls     holder -> that time to live, in ms

-- The server's clock in microseconds. A double holds these exactly until the year 2255.
local function micros()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local function millis()
  return math.floor(micros() / 1000)
end

-- All digits of a whole number: tostring() shortens it.
local function digits(number)
  return string.format('%.0f', number)
end

local function publish(topic, frame)
  if topic ~= '' and frame ~= '' then
    redis.call('@PUBLISH@', topic, frame)
  end
end

local function length_at(value, at)
  local a, b, c, d = string.byte(value, at, at + 3)
  return a + b * 256 + c * 65536 + d * 16777216
end

local function node_of(value)
  return string.sub(value, 1, 16)
end

local function member_of(value)
  return string.sub(value, 21, 20 + length_at(value, 17))
end

-- What is told when a lease ends, and whether it is told of each one, not of the member's last.
local function farewell_of(value)
  local info = 21 + length_at(value, 17)
  local length = length_at(value, info)
  return string.sub(value, info + 4 + length % 2147483648), length >= 2147483648
end

-- The scope whose keys begin at KEYS[key].
local function scope_at(key, name, topic)
  return {
    leases = KEYS[key], members = KEYS[key + 1], ends = KEYS[key + 2], ttls = KEYS[key + 3],
    name = name, topic = topic,
  }
end

-- Ends a lease; says whether its member has left with it, after telling what is to be told.
local function end_lease(scope, holder, value)
  redis.call('HDEL', scope.leases, holder)
  redis.call('HDEL', scope.ttls, holder)
  redis.call('ZREM', scope.ends, holder)
  local member = member_of(value)
  local last = redis.call('HINCRBY', scope.members, member, -1) <= 0
  if last then
    redis.call('HDEL', scope.members, member)
  end
  local farewell, each = farewell_of(value)
  if last or each then
    publish(scope.topic, farewell)
  end
  return last
end

-- Ends the leases whose own time is over, at most 1000 at once; says how many.
local function purge(scope, now)
  local late = redis.call('ZRANGEBYSCORE', scope.ends, '-inf', now, 'LIMIT', 0, 1000)
  for _, holder in ipairs(late) do
    local value = redis.call('HGET', scope.leases, holder)
    if value then
      end_lease(scope, holder, value)
    else
      redis.call('ZREM', scope.ends, holder)
      redis.call('HDEL', scope.ttls, holder)
    end
  end
  return #late
end

-- Notes when somebody has to look at the scope again.
local function schedule(due, scope)
  local first = redis.call('ZRANGE', scope.ends, 0, 0, 'WITHSCORES')
  if first[2] then
    redis.call('ZADD', due, first[2], scope.name)
  else
    redis.call('ZREM', due, scope.name)
  end
end

-- Nothing is immortal.
local function keep(scope, ttl)
  redis.call('PEXPIRE', scope.leases, ttl)
  redis.call('PEXPIRE', scope.members, ttl)
  redis.call('PEXPIRE', scope.ends, ttl)
  redis.call('PEXPIRE', scope.ttls, ttl)
end

-- A version above the server's clock: until the clock has passed it, nothing else remembers it once its object is gone.
local function raise_floor(floor, version, now)
  if version > now then
    local before = tonumber(redis.call('GET', floor) or '0')
    local top = math.max(before, version)
    redis.call('SET', floor, digits(top), 'PX', digits(math.ceil((top - now) / 1000) + 1000))
  end
end

