-- A page of who is in a room.
--
-- ARGV  3 cursor, '0' for the first page
--       4 users a page, roughly
--       5 more users than this are not listed, '' for no limit
-- Returns {life, revision, version, count, next cursor ('0' after the last page), {user, record, …}};
-- life is '' where nothing is known of the room.

look()
local count, limit = redis.call('HLEN', USERS), tonumber(ARGV[5])
if limit and count > limit then
  return { life, revision, version, count, '0', {} }
end
local page = redis.call('HSCAN', USERS, ARGV[3], 'COUNT', ARGV[4])
return { life, revision, version, count, page[1], page[2] }
