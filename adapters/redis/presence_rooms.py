"""The rooms this node listens to: from before the first seat until a while after the last."""

import asyncio
import logging
import random
from collections.abc import Callable, Container, Iterator

from adapters.redis.channels import ChannelListener, Channels
from adapters.redis.keyspace import Keyspace, RoomKeys
from adapters.redis.lease import Lease
from adapters.redis.presence_agenda import Agenda
from adapters.redis.presence_loader import Loader
from adapters.redis.presence_records import BadRecord, decode
from adapters.redis.presence_replica import Gap
from adapters.redis.presence_room import AttendedRoom
from domain.errors import HubbubError
from domain.identifiers import RoomId
from domain.member import PresenceChange

LINGER = 1.0  # seconds a room without seats is listened to: its last change is still to come
JITTER = 0.25  # seconds over which nodes spread what all of them are about to ask
_PRESENCE = b"P"  # other records on a feed are the broker's

logger = logging.getLogger("hubbub.presence")


class AttendedRooms(ChannelListener):
    """`tell` is called with what the listener is to hear."""

    def __init__(
        self,
        channels: Channels,
        keyspace: Keyspace,
        lease: Lease,
        agenda: Agenda,
        loader: Loader,
        tell: Callable[[PresenceChange], None],
    ) -> None:
        self._channels = channels
        self._keyspace = keyspace
        self._lease = lease
        self._agenda = agenda
        self._loader = loader
        self._tell = tell
        self._rooms: dict[RoomId, AttendedRoom] = {}
        self._feeds: dict[str, AttendedRoom] = {}
        self._to_visit: dict[RoomId, None] = {}  # once each, however often there was a reason
        self._visitor = asyncio.Event()

    def __iter__(self) -> Iterator[AttendedRoom]:
        return iter(list(self._rooms.values()))

    def __len__(self) -> int:
        return len(self._rooms)

    def find(self, room: RoomId) -> AttendedRoom | None:
        return self._rooms.get(room)

    def keys(self, room: RoomId) -> RoomKeys:
        return self._keyspace.room(room)

    async def hold(self, room: RoomId) -> AttendedRoom:
        """Listen to a room until `release`. Raises Unavailable."""
        attended = self._rooms.get(room)
        if attended is None:
            attended = self._rooms[room] = AttendedRoom(room, self._keyspace.room(room))
            self._feeds[attended.feed] = attended
        attended.holds += 1
        try:
            await self._lease.hold()
            # Whoever opens the room may be cancelled; then the next of those who wait takes over.
            while not attended.open:
                if attended.opening is None:
                    await self._open(attended)
                else:
                    await asyncio.shield(attended.opening)
        except BaseException:
            self.release(attended)
            raise
        return attended

    def release(self, room: AttendedRoom) -> None:
        """Give up a hold."""
        room.holds -= 1
        self._agenda.settle(room)

    def drop_idle(self, ending: Container[RoomId]) -> None:
        """Stop to listen where nobody has sat for a while and no grace is to be told the end of."""
        agenda = self._agenda
        now = agenda.now()
        for room, since in list(agenda.idle.items()):
            if not room.unused:
                del agenda.idle[room]
            elif room.id in agenda.graces or room.id in ending:
                agenda.idle[room] = now
            elif now - since >= LINGER:
                self._drop(room)

    def reread_all(self, cause: str) -> None:
        """Nothing is certain of any room."""
        for room in self._rooms.values():
            if room.open:
                self._agenda.reread(room, cause, random.uniform(0.0, JITTER))

    def revisit(self) -> None:
        """Look into rooms that were left not long ago: Redis may have forgotten that."""
        self._to_visit.update(dict.fromkeys(self._lease.rooms - self._rooms.keys()))
        self._visitor.set()

    async def run(self) -> None:
        """Visit rooms, until cancelled."""
        while True:
            while not self._to_visit:
                self._visitor.clear()
                await self._visitor.wait()
            room = next(iter(self._to_visit))
            del self._to_visit[room]
            try:
                self.release(await self.hold(room))
            except HubbubError as failure:
                logger.warning("cannot look into %s: %s", room, failure.message)

    # What the channels tell

    def received(self, channel: str, payload: bytes) -> None:
        if payload[:1] != _PRESENCE:
            return
        room = self._feeds.get(channel)
        if room is None:
            return
        try:
            record = decode(payload)
            if room.live:
                change = room.hear(record)
                if change is not None:
                    self._tell(change)
            else:
                self._loader.hear(room, record)
        except BadRecord as error:
            logger.error("in %s: %s", room.id, error)
            self._agenda.reread(room, "record")
        except Gap:
            self._agenda.reread(room, "gap")

    def lost(self, channel: str) -> None:
        room = self._feeds.get(channel)
        if room is not None and room.open:
            self._agenda.reread(room, "lost", random.uniform(0.0, JITTER))

    async def _open(self, room: AttendedRoom) -> None:
        opening = room.opening = asyncio.get_running_loop().create_future()
        try:
            await self._lease.register(room.id)
            await self._channels.subscribe(room.feed, self)
            room.open = True
            self._loader.read(room)
        except HubbubError as failure:
            opening.set_exception(failure)
            opening.exception()  # perhaps nobody waits
            raise
        finally:
            room.opening = None
            if not opening.done():
                opening.set_result(None)

    def _drop(self, room: AttendedRoom) -> None:
        del self._rooms[room.id], self._feeds[room.feed]
        self._channels.unsubscribe(room.feed, self)
        self._loader.forget(room)
        self._agenda.forget(room)
