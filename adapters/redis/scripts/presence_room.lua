-- What the presence scripts of a room share; it is put before each of them.
--
-- KEYS  1 who    hash: life, revision, version, born
--       2 users  hash: user -> '<node>:<sessions>,<node>:<sessions>|<info>', no seats while in grace
--       3 grace  sorted set: user -> when the grace ends, in ms of Redis time
-- ARGV  1 PUBLISH or SPUBLISH
--       2 the room's feed
--
-- The version rises by one with every user who comes or goes, the revision with everything that is
-- told on the feed. Both count within one life, which begins when Redis knows nothing of the room.
-- What is told: 'P1 <life> <revision> <version> <kind> <count> <sessions> <user> <info>', of kind J
-- (came), L (went) or S (the sessions or the info changed). Users are written first and the feed is
-- told last: a script that is refused for want of memory has done nothing.

local WHO, USERS, GRACE = KEYS[1], KEYS[2], KEYS[3]
local VERSION_KEPT = 3600000 -- ms for which an empty room keeps its count

local life, revision, version

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function look()
  local who = redis.call('HMGET', WHO, 'life', 'revision', 'version')
  life, revision, version = who[1] or '', tonumber(who[2] or 0), tonumber(who[3] or 0)
end

-- Give the room a life if it has none, unique by the node's name and the time.
local function live(node)
  if life ~= '' then
    return
  end
  local time = redis.call('TIME')
  life, revision, version = node .. '-' .. time[1] .. '.' .. time[2], 0, 0
  redis.call('HSET', WHO, 'life', life, 'revision', 0, 'version', 0, 'born', now())
end

local function tell(kind, user, sessions, info)
  revision = revision + 1
  if kind ~= 'S' then
    version = version + 1
  end
  local count = redis.call('HLEN', USERS)
  redis.call('HSET', WHO, 'revision', revision, 'version', version)
  if count == 0 then
    redis.call('PEXPIRE', WHO, VERSION_KEPT)
  elseif count == 1 then
    redis.call('PERSIST', WHO)
  end
  redis.call(ARGV[1], ARGV[2], table.concat(
    { 'P1', life, revision, version, kind, count, sessions, user, info }, ' '))
end

local function split(record)
  local bar = string.find(record, '|', 1, true)
  return string.sub(record, 1, bar - 1), string.sub(record, bar + 1)
end

-- The seats of all nodes but one, which may have a former name; and how many sessions it had under
-- either name.
local function without(seats, node, former)
  local kept, own, before = {}, 0, 0
  for name, sessions in string.gmatch(seats, '([^:,]+):(%d+)') do
    if name == node then
      own = tonumber(sessions)
    elseif name == former then
      before = tonumber(sessions)
    else
      kept[#kept + 1] = name .. ':' .. sessions
    end
  end
  return table.concat(kept, ','), own, before
end

local function total(seats)
  local sum = 0
  for sessions in string.gmatch(seats, ':(%d+)') do
    sum = sum + sessions
  end
  return sum
end

-- Let a node hold so many sessions of a user who is there.
local function seat(user, record, node, former, sessions, info)
  local seats, known = split(record)
  info = info or known
  local others, own, before = without(seats, node, former)
  if own == sessions and before == 0 and info == known then
    return
  end
  local all = (others == '' and '' or others .. ',') .. node .. ':' .. sessions
  redis.call('HSET', USERS, user, all .. '|' .. info)
  if seats == '' then
    redis.call('ZREM', GRACE, user)
  end
  tell('S', user, total(all), info)
end

-- Take a node's seats from a user who is there. Without any seat left the user goes, or stays for
-- `grace` ms. Returns what happened.
local function unseat(user, record, node, former, grace)
  local seats, info = split(record)
  local others, own, before = without(seats, node, former)
  if own + before == 0 then
    -- Perhaps this was said before, and the answer got lost: somebody must know of the grace.
    return seats == '' and 'graced' or 'absent'
  end
  if others ~= '' then
    redis.call('HSET', USERS, user, others .. '|' .. info)
    tell('S', user, total(others), info)
    return 'seated'
  end
  if grace > 0 then
    redis.call('HSET', USERS, user, '|' .. info)
    redis.call('ZADD', GRACE, now() + grace, user)
    tell('S', user, 0, info)
    return 'graced'
  end
  redis.call('HDEL', USERS, user)
  tell('L', user, 0, info)
  return 'left'
end
