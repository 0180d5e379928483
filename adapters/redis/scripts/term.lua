-- Agree on a term where INFO may not be asked: whoever comes first names it.
--
-- KEYS  1 the term: "<number>-<something random>". One without a number is of an earlier version.
-- ARGV  1 the term that is over, "" for none
--       2 what to make a new one of
-- Returns the term in force, "" where INFO may be asked.

local info = redis.pcall('INFO', 'replication')
if type(info) == 'string' and string.match(info, 'master_replid:%x+') then
  return ''
end

local function number(term)
  return tonumber(string.match(term, '^(%d+)-') or 0)
end

local term, over = redis.call('GET', KEYS[1]), ARGV[1]
-- An older one than the one that is over is what a store has that lost the end of everything.
if term and term ~= over and number(term) >= number(over) then
  return term
end
local following = math.max(number(term or ''), number(over)) + 1
term = string.format('%d-%s', following, ARGV[2])
redis.call('SET', KEYS[1], term)
return term
