-- Agree on a term where INFO may not be asked: whoever comes first names it.
--
-- KEYS  1 the term
-- ARGV  1 the term that is over, "" for none
--       2 a new one
-- Returns the term in force, "" where INFO may be asked.

local info = redis.pcall('INFO', 'replication')
if type(info) == 'string' and string.match(info, 'master_replid:%x+') then
  return ''
end
local term = redis.call('GET', KEYS[1])
if term and term ~= ARGV[1] then
  return term
end
redis.call('SET', KEYS[1], ARGV[2])
return ARGV[2]
