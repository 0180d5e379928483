-- Number a message, append it to its room's log, send it to the subscribers.
--
-- KEYS  1 meta   hash: epoch, seq, term, start (the first seq of the term), previous (term), reign
--                (who gave the term its name), lineage (the last terms, each with the seq before
--                its first message: "t:0,u:17")
--       2 log    stream: ids are seq-0, field m holds the record
--       3 what became of a publish key (only when there is one): "epoch term seq digest id"
-- ARGV  1 PUBLISH or SPUBLISH
--       2 the channel of the room
--       3 what a record ends with, from the message id on: see records.py
--       4 messages the log keeps
--       5 lifetime of the log in ms
--       What follows may be left out, from the end:
--       6 term to use where INFO may not be asked, "" for none
--       7 digest of the data, "" without a key
--       8 epoch,
--       9 top and
--       10 term of the room when this call was made first: only with a repeated one
-- Returns {"OK", epoch, term, seq}
--         {"USED", epoch, term, seq, id, 1}  it has been published before, there; without the 1,
--                                            nothing could be written behind it now
--         {"CONFLICT"}                    the key was used for other data
--         {"UNKNOWN"}                     it cannot be found out whether it has been published
--
-- Nothing is rolled back when a command fails. What can be refused (no memory, not enough
-- replicas, disk full) is refused at the first write, so the order of the writes is: the log, then
-- what depends on it, the subscribers last.

local HEAD = 'M1' -- kind and format version of a record
local KEY_MS = 300000 -- a key is remembered for five minutes
local META_MS = 2592000000 -- epoch and count outlive the last use by 30 days, or by the log's life
local REMEMBERED = 16 -- terms
local CHUNK = 64 -- messages read at once, at most
local MOST = 512 -- of them looked at in search of one, where each 4 KB count as one more

-- Who asks for replicas asks for those that have what its own connection wrote, so it has to write
-- something behind what another one did. Refused, as when the disk is full, it is left out.
local function used(...)
  local answer = {'USED', ...}
  local renewed = redis.pcall('PEXPIRE', KEYS[1], math.max(META_MS, ARGV[5]))
  if type(renewed) == 'number' then
    answer[#answer + 1] = 1
  end
  return answer
end

local function message_id()
  return string.match(ARGV[3], '^%S+')
end

local meta = redis.call('HMGET', KEYS[1], 'epoch', 'seq', 'term', 'start', 'previous', 'reign')
local epoch, term, start, previous = meta[1], meta[3], meta[4], meta[5]
local top = tonumber(meta[2] or '0')

-- A key counts within one life of the log.
if KEYS[3] and epoch then
  local found = redis.call('GET', KEYS[3])
  local of = found and {string.match(found, '^(%S+) (%S+) (%d+) (%S+) (%S+)$')}
  if of and of[1] == epoch then
    if of[4] ~= ARGV[7] then
      return {'CONFLICT'}
    end
    return used(epoch, of[2], tonumber(of[3]), of[5])
  end
end

-- Sent again because no reply came: look for the message among those since the first time.
if ARGV[9] and epoch and not KEYS[3] then
  -- The seq that all is above that was numbered since a room was known to have this term and top: a
  -- store that took over with less of the term went on from there. Of a term not known, nothing is.
  local function lowest(term, top)
    local known, lineage = false, redis.call('HGET', KEYS[1], 'lineage') or ''
    for name, start in string.gmatch(lineage, '([^:,]+):(%d+)') do
      if known then
        return math.min(top, tonumber(start))
      end
      known = name == term
    end
    return known and top or 0
  end

  local function entry_id(seq)
    return string.format('%d-0', seq)
  end

  -- An id names its publisher, and counts in hexadecimal which of its messages it is.
  local PARTS = '^(' .. string.rep('%S', 12) .. ')(%x+)$'
  local publisher, sought = string.match(message_id(), PARTS)
  sought = tonumber(sought, 16)
  local left = MOST

  -- The newest message of the publisher up to a seq, above another one: its seq, which one it is and
  -- its record. Nil if there is none, false if that cannot be said.
  local function newest(seq, above)
    local count = 4
    while seq > above do
      local first, last = entry_id(above + 1), entry_id(seq)
      local entries = redis.call('XREVRANGE', KEYS[2], last, first, 'COUNT', count)
      if #entries == 0 or entries[#entries][1] ~= entry_id(seq - #entries + 1) or left < 0 then
        return false
      end
      for place, entry in ipairs(entries) do
        local record = entry[2][2]
        -- Most are of others, and this tells them soonest.
        if string.find(record, publisher, 1, true) then
          local id = string.match(record, '^%S+ %S+ %S+ %S+ %S* %d+ (%S+) ')
          local name, which = string.match(id or '', PARTS)
          if name == publisher then
            return seq - place + 1, tonumber(which, 16), record
          end
        end
        left = left - 1 - #record / 4096
      end
      seq = seq - #entries
      count = math.min(2 * count, CHUNK)
    end
  end

  -- The record of the message if it is above a seq; or else nil, and whether that is sure. All of a
  -- publisher's messages are in a log in their order, so each one met says on which side of it to
  -- look on. After a silence thousands are looked for, each among all of them.
  local function find(above)
    local oldest = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1]
    local floor = oldest and tonumber(string.match(oldest[1], '^%d+')) - 1 or top
    local low, high, seq = math.max(above, floor), top, top
    local sure, guessed = floor <= above, false
    while low < high do
      local at, which, record = newest(seq, low)
      if at == false then
        return nil, false
      elseif at and which == sought then
        return record
      elseif at and which > sought then
        high = at - 1
        -- The first time as if nobody else had published meanwhile, then half way.
        seq = guessed and low or at - (which - sought)
        guessed = true
      else
        sure = sure or at ~= nil
        low, seq = seq, low
      end
      if seq <= low then
        seq = math.ceil((low + high) / 2)
      end
    end
    return nil, sure
  end

  local record, sure = find(epoch == ARGV[8] and lowest(ARGV[10], tonumber(ARGV[9])) or 0)
  if record then
    local of = {string.match(record, '^%S+ (%S+) (%S+) %S+ %S* (%d+) ')}
    return used(of[1], of[2], tonumber(of[3]), message_id())
  elseif not sure then
    return {'UNKNOWN'}
  end
end

-- No two servers that number on from the same state have the same id of replication, and a server
-- has another one after every start. A room may leave a server and come back to it, so a term has
-- a name of its own each time, made of the id and of the message it begins with.
local info = redis.pcall('INFO', 'replication')
local reign = type(info) == 'string' and string.match(info, 'master_replid:(%x+)')
if not reign then
  local function made_up(reign)
    return tonumber(string.match(reign, '^(%d+)-') or 0)
  end

  -- A name that is made up has a number: see term.lua. Who has not heard of the newest one yet must
  -- not begin another term.
  reign = ARGV[6]
  if reign and reign ~= '' and meta[6] and made_up(reign) < made_up(meta[6]) then
    reign = meta[6]
  end
end
if not reign or reign == '' then
  return redis.error_reply('NOTERM INFO is refused and no term was given')
end

local changed = {}
if not epoch or meta[6] ~= reign then
  local lineage = epoch and redis.call('HGET', KEYS[1], 'lineage') or ''
  start, previous = string.format('%d', top + 1), term or ''
  term = string.sub(redis.sha1hex(reign .. message_id()), 1, 16)
  epoch = epoch or string.sub(redis.sha1hex(table.concat(redis.call('TIME')) .. term), 1, 32)
  local terms = {}
  for one in string.gmatch(lineage, '[^,]+') do
    terms[#terms + 1] = one
  end
  terms[#terms + 1] = string.format('%s:%d', term, top)
  changed = {
    'epoch', epoch, 'term', term, 'start', start, 'previous', previous, 'reign', reign,
    'lineage', table.concat(terms, ',', math.max(1, #terms - REMEMBERED + 1)),
  }
end

local seq = string.format('%d', top + 1)
local record = table.concat({HEAD, epoch, term, start, previous, seq, ARGV[3]}, ' ')
-- A log without meta is of a life that is over. Only then, for a removal is a write that is never
-- refused, and none is after it.
if not meta[1] and redis.call('EXISTS', KEYS[2]) == 1 then
  redis.call('DEL', KEYS[2])
end
redis.call('XADD', KEYS[2], 'MAXLEN', ARGV[4], seq .. '-0', 'm', record)
redis.call('HSET', KEYS[1], 'seq', seq, unpack(changed))
redis.call('PEXPIRE', KEYS[2], ARGV[5])
redis.call('PEXPIRE', KEYS[1], math.max(META_MS, ARGV[5]))
if KEYS[3] then
  local place = table.concat({epoch, term, seq, ARGV[7], message_id()}, ' ')
  redis.call('SET', KEYS[3], place, 'PX', KEY_MS)
end
redis.call(ARGV[1], ARGV[2], record)
return {'OK', epoch, term, top + 1}
