-- Renew a node's lease, and learn of one node that is dead and left to this one to clear away.
--
-- KEYS  1 leases  sorted set: node -> when its lease ends, in ms of Redis time
--       2 dead    sorted set: node -> until when somebody is clearing it away
-- ARGV  1 node
--       2 ms the lease is for
--       3 '1' to take a lease under a new name
--       4 '1' when this node may judge others
--       5 ms a dead node is left to who learns of it
-- Returns {'held', dead node or ''}, or {'lost'} with nothing done: a lease that ended is never
-- taken again, since its seats may be being cleared away this moment.

local LEASES, DEAD = KEYS[1], KEYS[2]
local node, length, new, judge, claim = ARGV[1], ARGV[2], ARGV[3] == '1', ARGV[4] == '1', ARGV[5]

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local ends = tonumber(redis.call('ZSCORE', LEASES, node) or 0)
if not new and ends <= now then
  return { 'lost' }
end
redis.call('ZADD', LEASES, now + length, node)
if not judge then
  return { 'held', '' }
end
for _, ended in ipairs(redis.call('ZRANGEBYSCORE', LEASES, '-inf', now, 'LIMIT', 0, 100)) do
  redis.call('ZREM', LEASES, ended)
  redis.call('ZADD', DEAD, now, ended)
end
local dead = redis.call('ZRANGEBYSCORE', DEAD, '-inf', now, 'LIMIT', 0, 1)[1]
if not dead then
  return { 'held', '' }
end
redis.call('ZADD', DEAD, now + claim, dead)
return { 'held', dead }
