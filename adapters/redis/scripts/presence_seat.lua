-- Say how many sessions of a user a node holds: an absolute number, so that saying it again is
-- harmless.
--
-- ARGV  3 node, 4 its former name or ''
--       5 the life the node knows, '' when it knows none
--       6 user
--       7 sessions
--       8 info, 9 '1' when it is newer than what the room has
--       10 how many users there may be at most, '' for any number
--       11 grace in ms once no session is left, 0 after a clean end
-- Returns {what happened, life, revision, version}: 'joined', 'seated', 'graced', 'left', 'absent'
-- (there was nothing to take out), and with nothing done 'full' or 'other' (this is another life
-- than the one known).

local node, former, known, user, sessions = ARGV[3], ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7])
local info, newer, most, grace = ARGV[8], ARGV[9] == '1', tonumber(ARGV[10]), tonumber(ARGV[11])

local function apply()
  if known ~= '' and known ~= life then
    return 'other'
  end
  local record = redis.call('HGET', USERS, user)
  if sessions == 0 then
    return record and unseat(user, record, node, former, grace) or 'absent'
  end
  if record then
    seat(user, record, node, former, sessions, newer and info or nil)
    return 'seated'
  end
  if most and redis.call('HLEN', USERS) >= most then
    return 'full'
  end
  redis.call('HSET', USERS, user, node .. ':' .. sessions .. '|' .. info)
  live(node)
  tell('J', user, sessions, info)
  return 'joined'
end

look()
local happened = apply()
return { happened, life, revision, version }
