-- Let users go whose grace is over, in the order in which it ends.
--
-- ARGV  3 node
--       4 so many at most
-- Returns ms until the next grace ends, 0 when it has ended already, -1 when nobody is in grace.

look()
local time = now()
for _, user in ipairs(redis.call('ZRANGEBYSCORE', GRACE, '-inf', time, 'LIMIT', 0, ARGV[4])) do
  local record = redis.call('HGET', USERS, user)
  redis.call('ZREM', GRACE, user)
  if record and string.sub(record, 1, 1) == '|' then
    redis.call('HDEL', USERS, user)
    live(ARGV[3])
    tell('L', user, 0, string.sub(record, 2))
  end
end
local first = redis.call('ZRANGE', GRACE, 0, 0, 'WITHSCORES')
return first[2] and math.max(0, math.ceil(first[2] - time)) or -1
