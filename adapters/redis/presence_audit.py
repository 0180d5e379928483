"""Looking now and then whether what this node takes for true still is."""

import asyncio
import itertools
from contextlib import suppress

from adapters.redis.lease import Lease
from adapters.redis.presence_agenda import Agenda
from adapters.redis.presence_orphans import Orphans
from adapters.redis.presence_room import AttendedRoom
from adapters.redis.presence_rooms import AttendedRooms
from adapters.redis.store import Store
from domain.errors import HubbubError
from domain.identifiers import RoomId

INTERVAL = 1.0  # seconds between two looks
ROUND = 10  # looks until every room has been looked at
KEPT = 60.0  # seconds a room stays on the node's list after it was left
AT_ONCE = 64  # rooms


class Audit:
    """A record that got lost with nothing behind it leaves no hole to be seen."""

    def __init__(
        self,
        store: Store,
        agenda: Agenda,
        rooms: AttendedRooms,
        lease: Lease,
        orphans: Orphans,
    ) -> None:
        self._store = store
        self._agenda = agenda
        self._rooms = rooms
        self._lease = lease
        self._orphans = orphans
        self._left: dict[RoomId, float] = {}

    async def run(self) -> None:
        """Until cancelled."""
        for turn in itertools.cycle(range(ROUND)):
            await asyncio.sleep(INTERVAL)
            rooms = [room for room in self._rooms if room.live]
            await self.look(rooms[turn::ROUND])
            if turn == 0:
                self.dismiss()
                with suppress(HubbubError):  # what is wrong there is noticed elsewhere
                    await self._orphans.check()

    async def look(self, rooms: list[AttendedRoom]) -> None:
        """Compare the revision of rooms with the one in Redis."""
        for at in range(0, len(rooms), AT_ONCE):
            await asyncio.gather(*map(self._look, rooms[at : at + AT_ONCE]))

    def dismiss(self) -> None:
        """Take rooms from the node's list that it left long enough ago for Redis to have noted."""
        now, busy = self._agenda.now(), self._agenda.graces
        left = {
            room for room in self._lease.rooms if room not in busy and not self._rooms.find(room)
        }
        self._left = {room: self._left.get(room, now) for room in left}
        long_ago = [room for room, since in self._left.items() if now - since >= KEPT]
        self._lease.dismiss(long_ago)

    async def _look(self, room: AttendedRoom) -> None:
        who, replica = room.keys[0], room.replica
        life, revision = replica.life, replica.revision
        try:
            found = await self._store.command(who, "HMGET", who, "life", "revision")
        except HubbubError:
            return  # what is wrong there is noticed elsewhere
        if not room.live or replica.life != life or self._rooms.find(room.id) is not room:
            return  # read anew, or left, meanwhile
        now_life, now_revision = found[0] or b"", int(found[1] or 0)
        if now_life != life or now_revision < revision:
            self._agenda.reread(room, "audit")
        else:
            self._agenda.expect(room, now_life, now_revision)
