-- Take a node's seats from a page of a room's users; whoever has no other goes. Doing it again, or
-- two at a time, is harmless.
--
-- ARGV  3 the node whose seats are taken
--       4 cursor, '0' for the first page
--       5 users a page, roughly
-- Returns the next cursor, '0' after the last page.

look()
local gone = ARGV[3]
local page = redis.call('HSCAN', USERS, ARGV[4], 'COUNT', ARGV[5])
for at = 1, #page[2], 2 do
  local user, record = page[2][at], page[2][at + 1]
  if string.find(record, gone, 1, true) then
    live(gone)
    unseat(user, record, gone, '', 0)
  end
end
return page[1]
