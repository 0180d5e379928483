-- Put an order on record and tell the nodes that listen.
-- KEYS: record. ARGV: order, seconds to remember, feed, command to publish with.
local now = redis.call('TIME')
local oldest = (now[1] - ARGV[2]) * 1000
local id = redis.call('XADD', KEYS[1], 'MINID', '~', oldest, '*', 'o', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2] * 1000)
redis.call(ARGV[4], ARGV[3], id .. ' ' .. ARGV[1])
return id
