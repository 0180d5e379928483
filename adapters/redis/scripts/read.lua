-- Look at a room's log, everything at one moment: who numbers it, what it keeps, some of that.
--
-- KEYS  1 meta, 2 log: see publish.lua
-- ARGV  1 "up": messages above a seq, ascending; "down": below a seq, descending
--       2 that seq, exclusive
--       3 messages wanted at most
--       4 bytes of records wanted at most, but one record always
--       5 a random text to make an epoch of when the room has none; "" to leave it so
--       6 lifetime of the log in ms; where a text is given, that of meta is renewed by it
--       7 term to use where INFO may not be asked, "" for none
-- Returns {} for a room that is not there, or
--         {epoch, top, lineage, floor (nothing up to this seq is kept),
--          what the log has left to live in ms (below 0: there is none),
--          {seq, record, seq, record, ...}}

local CHUNK = 32
local META_MS = 2592000000 -- see publish.lua

local meta = redis.call('HMGET', KEYS[1], 'epoch', 'seq', 'lineage')
if not meta[1] then
  if ARGV[5] == '' then
    return {}
  end
  local info = redis.pcall('INFO', 'replication')
  local reign = type(info) == 'string' and string.match(info, 'master_replid:(%x+)') or ARGV[7]
  if reign == '' then
    return redis.error_reply('NOTERM INFO is refused and no term was given')
  end
  local term = string.sub(redis.sha1hex(reign .. ARGV[5]), 1, 16)
  meta = {string.sub(redis.sha1hex(ARGV[5]), 1, 32), '0', term .. ':0'}
  -- A log without meta is of a life that is over.
  if redis.call('EXISTS', KEYS[2]) == 1 then
    redis.call('DEL', KEYS[2])
  end
  redis.call(
    'HSET', KEYS[1], 'epoch', meta[1], 'seq', '0', 'term', term, 'start', '1', 'previous', '',
    'reign', reign, 'lineage', meta[3]
  )
end
if ARGV[5] ~= '' then
  -- Reading must go on where writing is refused.
  redis.pcall('PEXPIRE', KEYS[1], math.max(META_MS, ARGV[6]))
end

local function seq_of(id)
  return tonumber(string.match(id, '^%d+'))
end

local top = tonumber(meta[2])
local oldest = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1]
local floor = oldest and seq_of(oldest[1]) - 1 or top

local up, at = ARGV[1] == 'up', tonumber(ARGV[2])
local wanted, bytes = tonumber(ARGV[3]), tonumber(ARGV[4])
local found = {}
while wanted > 0 do
  local entries
  if up then
    local from = string.format('%d', at + 1)
    entries = redis.call('XRANGE', KEYS[2], from, '+', 'COUNT', math.min(wanted, CHUNK))
  elseif at > 1 then
    local from = string.format('%d-0', at - 1)
    entries = redis.call('XREVRANGE', KEYS[2], from, '-', 'COUNT', math.min(wanted, CHUNK))
  else
    entries = {}
  end
  if #entries == 0 then
    break
  end
  for _, entry in ipairs(entries) do
    local record = entry[2][2]
    bytes = bytes - #record
    if bytes < 0 and #found > 0 then
      wanted = 0
      break
    end
    at = seq_of(entry[1])
    found[#found + 1] = at
    found[#found + 1] = record
    wanted = wanted - 1
  end
end

return {meta[1], top, meta[3], floor, redis.call('PTTL', KEYS[2]), found}
