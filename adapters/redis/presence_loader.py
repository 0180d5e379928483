"""Reading rooms: before they are known, after the feed had a hole, and after Redis lost them.

All of it goes on in callbacks of the store, page by page; nobody waits here. A room that Redis has
lost, or of which it fell back to an earlier state, is put back from what this node knows before it
is read again: nobody is told to be gone for that.
"""

from collections.abc import Callable, Sequence
from typing import Any

from adapters.redis.keyspace import RoomKeys
from adapters.redis.lease import LENGTH, Lease
from adapters.redis.link import Word
from adapters.redis.presence_agenda import Agenda
from adapters.redis.presence_orphans import Orphans
from adapters.redis.presence_records import BadRecord, Page, Record, decode_page
from adapters.redis.presence_replica import Gap, Loaded, Loading
from adapters.redis.presence_room import AttendedRoom
from adapters.redis.presence_scripts import READ, RESTORE, presence_keys
from adapters.redis.store import Script, Store
from domain.errors import HubbubError, OutcomeUnknown, Unavailable
from domain.identifiers import UserId
from domain.member import Member, PresenceChange, Snapshot

PAGE = 1000  # users, roughly
AT_ONCE = 64  # rooms read at a time
GIVE_UP = 5.0  # seconds after which a reading is begun again: the feed may be silent
PAUSE = 0.5  # seconds before a reading that came to nothing is begun again
_SKIPPED = 2  # versions; whoever finds one missing asks who is there
_BATCH = 200  # users put back in one call
_RESTORE_GRACE = LENGTH  # seconds in which every node that lives says again who it holds


class Loader:
    """`tell` is called with what the listener is to hear."""

    def __init__(
        self,
        store: Store,
        lease: Lease,
        agenda: Agenda,
        orphans: Orphans,
        tell: Callable[[PresenceChange], None],
    ) -> None:
        self._store = store
        self._lease = lease
        self._agenda = agenda
        self._orphans = orphans
        self._tell = tell
        self._active: dict[AttendedRoom, Loading] = {}

    def read_stale(self) -> None:
        """Begin to read what is stale, so many rooms at a time."""
        now, stale = self._agenda.now(), self._agenda.stale
        for room in [r for r, loading in self._active.items() if now - loading.begun > GIVE_UP]:
            self._fail(room)
        for room, not_before in list(stale.items()):
            if len(self._active) >= AT_ONCE:
                return
            if not_before <= now:
                self.read(room)

    def read(self, room: AttendedRoom) -> None:
        """Begin to read a room, whatever was begun before."""
        self._agenda.stale.pop(room, None)
        loading = self._active[room] = room.begin_loading(self._agenda.now())
        self._ask(room, loading, "0")

    def hear(self, room: AttendedRoom, record: Record) -> None:
        """Take a record of the feed of a room that is being read."""
        loading = self._active.get(room)
        if loading is not None:
            try:
                loading.hear(record)
                self._finish(room, loading)
            except Gap:
                self._fail(room)

    async def look(self, keys: RoomKeys, list_limit: int | None) -> Snapshot:
        """Everybody in a room nobody here listens to. Raises Unavailable."""
        members: dict[UserId, Member] = {}
        limit, cursor = "" if list_limit is None else list_limit, "0"
        while True:
            words = (self._store.publish_command, keys.feed, cursor, PAGE, limit)
            try:
                page = decode_page(await self._store.run_script(READ, presence_keys(keys), words))
            except (OutcomeUnknown, BadRecord) as failure:
                raise Unavailable(str(failure)) from failure
            if list_limit is not None and page.users > list_limit:
                return Snapshot(None, page.users, page.version)
            for user, info, sessions, _ in page.entries:
                members[user] = Member(user, info, sessions)
            cursor = page.cursor
            if cursor == "0":
                break
        listed = tuple(members[user] for user in sorted(members))
        return Snapshot(listed, len(listed), page.version)

    def forget(self, room: AttendedRoom) -> None:
        self._active.pop(room, None)

    def _submit(
        self,
        script: Script,
        room: AttendedRoom,
        loading: Loading,
        words: Sequence[Word],
        done: Callable[[Any], None],
    ) -> None:
        """Ask Redis; `done` is called with the reply if this reading is still wanted by then."""
        every = (self._store.publish_command, room.feed, *words)

        def answered(reply: Any) -> None:
            if self._active.get(room) is not loading:
                return  # begun anew, or not attended any more
            try:
                if isinstance(reply, HubbubError):
                    raise reply
                done(reply)
            except (HubbubError, BadRecord, Gap):
                self._fail(room)

        self._store.submit(script, room.keys, lambda _: every, answered)

    def _ask(self, room: AttendedRoom, loading: Loading, cursor: str) -> None:
        def done(reply: Any) -> None:
            page = decode_page(reply)
            self._add(room, loading, page)
            if page.cursor != "0":
                self._ask(room, loading, page.cursor)

        self._submit(READ, room, loading, (cursor, PAGE, ""), done)

    def _add(self, room: AttendedRoom, loading: Loading, page: Page) -> None:
        room.compare(page, self._lease.node, self._lease.former)
        self._orphans.note(room.id, page)
        loading.add(page)
        if page.cursor == "0":
            room.compare_absent(loading.seen)
            self._finish(room, loading)
        self._agenda.settle(room)

    def _finish(self, room: AttendedRoom, loading: Loading) -> None:
        loaded = loading.finish()
        if loaded is None:
            return
        replica = room.replica
        if not (replica.continues(loaded) or loaded.life == room.restored):
            self._restore(room, loading, replica.version)
        elif replica.can_tell(loaded):
            self._adopt(room, loaded)
        else:
            self._restore(room, loading, replica.version + _SKIPPED)

    def _adopt(self, room: AttendedRoom, loaded: Loaded) -> None:
        del self._active[room]
        for change in room.adopt(loaded):
            self._tell(change)
        if not room.live:
            self._fail(room)
            return
        if any(member.sessions == 0 for member in loaded.members.values()):
            # Whoever is to end that grace may have died, or not know of it.
            self._agenda.grace(room.id, 0.0)
        self.read_stale()

    def _restore(self, room: AttendedRoom, loading: Loading, version: int) -> None:
        """Put back what Redis has not, going on from no less than this version, then read again."""
        people = list(room.to_restore())
        lease, replica = self._lease, room.replica
        begin = (lease.node, lease.former, replica.life, version)
        times = (int(LENGTH * 1000), int(_RESTORE_GRACE * 1000))
        batches = [people[at : at + _BATCH] for at in range(0, len(people), _BATCH)] or [[]]
        left = len(batches)

        def done(reply: Any) -> None:
            nonlocal left
            left -= 1
            if not left:
                room.restored = reply[0]
                self._agenda.grace(room.id, _RESTORE_GRACE)
                self.read(room)

        for batch in batches:
            flat = (word for person in batch for word in person)
            self._submit(RESTORE, room, loading, (*begin, *times, *flat), done)

    def _fail(self, room: AttendedRoom) -> None:
        self.forget(room)
        self._agenda.reread(room, "failed", PAUSE)
