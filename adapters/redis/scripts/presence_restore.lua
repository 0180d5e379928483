-- Put back users of a life that Redis has lost, or of the part of one it has lost. That is not a
-- coming: nobody has noticed that they were gone. Those who nobody says to hold get a grace.
--
-- ARGV  3 node, 4 its former name or ''
--       5 the life the node knows, 6 and the version it was told last
--       7 ms after the beginning of another life during which users may be put back without a seat
--       8 their grace in ms
--       9… user, sessions on this node, info
-- Returns {life, revision, version}.

local node, former, known, told = ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])

look()
local fresh = life == ''
live(node)
if told > version then
  -- In a life somebody else began, the same version may have been told of others.
  version = fresh and told or told + 1
  redis.call('HSET', WHO, 'version', version)
end
local open = life == known or now() - redis.call('HGET', WHO, 'born') < tonumber(ARGV[7])
for at = 9, #ARGV, 3 do
  local user, sessions, info = ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 2]
  local record = redis.call('HGET', USERS, user)
  if sessions > 0 then
    if record then
      seat(user, record, node, former, sessions)
    else
      redis.call('HSET', USERS, user, node .. ':' .. sessions .. '|' .. info)
      tell('S', user, sessions, info)
    end
  elseif open and not record then
    redis.call('HSET', USERS, user, '|' .. info)
    redis.call('ZADD', GRACE, now() + tonumber(ARGV[8]), user)
    tell('S', user, 0, info)
  end
end
if redis.call('HLEN', USERS) == 0 then
  redis.call('PEXPIRE', WHO, VERSION_KEPT)
end
return { life, revision, version }
