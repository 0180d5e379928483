"""Presence on Redis: who is in a room, over all nodes.

What a node holds of a room is said to Redis as absolute numbers (presence_seating). What becomes of
that is told to every node on the room's feed and kept as a replica (presence_replica), which is
read anew whenever the feed had a hole (presence_loader). What a dead node held is cleared away by
another one (lease, presence_janitor).
"""

import asyncio
import time
from collections.abc import Callable
from itertools import islice

from adapters.redis.channels import Channels
from adapters.redis.keyspace import Keyspace
from adapters.redis.lease import Lease
from adapters.redis.presence_agenda import Agenda
from adapters.redis.presence_audit import Audit
from adapters.redis.presence_graces import Graces
from adapters.redis.presence_janitor import Janitor
from adapters.redis.presence_loader import Loader
from adapters.redis.presence_orphans import Orphans
from adapters.redis.presence_room import AttendedRoom
from adapters.redis.presence_rooms import AttendedRooms
from adapters.redis.presence_scripts import NodeKeys
from adapters.redis.presence_seating import FULL, JOINED, OTHER, Entering, Seating
from adapters.redis.store import Store
from application.ports.metrics import Metrics
from application.ports.presence import Presence, PresenceListener
from domain.errors import HubbubError, RoomFull, Unavailable
from domain.identifiers import RoomId, SessionId, UserId
from domain.member import Attendance, PresenceChange, Snapshot

SWEEP_INTERVAL = 0.25  # seconds; how late a grace may end
PATIENCE = 1.0  # seconds the feed may stand still before a room is read
GIVE_UP = 4.0  # seconds after which who enters is not kept waiting any more
_MAX_ROOMS = 2000  # spoken of again in one sweep
_ATTEMPTS = 3  # to enter a room that Redis loses meanwhile


class RedisPresence(Presence):
    """See the port. `store` and `channels` are run by whoever made them.

    `grace` is in seconds. What this node waits for is counted on `clock` (monotonic), what all
    nodes have to agree on is counted by Redis.
    """

    def __init__(
        self,
        store: Store,
        channels: Channels,
        metrics: Metrics,
        keyspace: Keyspace | None = None,
        nodes: NodeKeys | None = None,
        *,
        grace: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`keyspace` and `nodes` are to have the same prefix."""
        keyspace, nodes = keyspace or Keyspace(), nodes or NodeKeys()
        self._store = store
        self._channels = channels
        self._listener: PresenceListener | None = None
        self._agenda = agenda = Agenda(clock, metrics)
        self.lease = lease = Lease(store, nodes, clock)
        self._graces = graces = Graces(store, lease, agenda, keyspace)
        self.janitor = janitor = Janitor(store, lease, agenda, graces, keyspace, nodes)
        self.orphans = orphans = Orphans(store, lease, agenda, nodes, janitor)
        self._loader = loader = Loader(store, lease, agenda, orphans, self._tell)
        self.rooms = rooms = AttendedRooms(channels, keyspace, lease, agenda, loader, self._tell)
        self._seating = Seating(store, lease, agenda, grace)
        self.audit = Audit(store, agenda, rooms, lease, orphans)
        lease.on_dead(janitor.found)
        lease.on_renamed(lambda: rooms.reread_all("lease"))
        store.on_store_changed(self._store_changed)

    def attach(self, listener: PresenceListener) -> None:
        self._listener = listener

    async def enter(
        self,
        room: RoomId,
        session: SessionId,
        user: UserId,
        info: bytes,
        *,
        max_members: int | None,
        list_limit: int,
    ) -> Attendance:
        attended = await self.rooms.hold(room)
        try:
            joined = await self._enter(attended, session, user, info, max_members)
            return Attendance(attended.replica.snapshot(list_limit), joined)
        finally:
            self.rooms.release(attended)

    def leave(self, room: RoomId, session: SessionId, user: UserId, *, clean: bool) -> None:
        attended = self.rooms.find(room)
        if attended is not None:
            self._leave(attended, session, user, clean=clean)

    async def snapshot(self, room: RoomId, list_limit: int | None = None) -> Snapshot:
        attended = self.rooms.find(room)
        if attended is not None and attended.live and self._channels.healthy:
            return attended.replica.snapshot(list_limit)
        return await self._loader.look(self.rooms.keys(room), list_limit)

    @property
    def settled(self) -> bool:
        """Whether Redis knows all that happened here, and this node all that came of it."""
        return not self._graces.ending and all(room.settled for room in self.rooms)

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.lease.run(), name="lease")
                tasks.create_task(self.janitor.run(), name="janitor")
                tasks.create_task(self.audit.run(), name="audit")
                tasks.create_task(self.rooms.run(), name="rooms")
                tasks.create_task(self._sweep(), name="sweep")
        finally:
            self.lease.resign()

    def sweep(self) -> None:
        """Do what is due."""
        agenda = self._agenda
        now = agenda.now()
        self._graces.end_due()
        due = (
            room
            for room, not_before in agenda.unsettled.items()
            if not_before <= now and room.live  # else what Redis holds is about to be known
        )
        for room in list(islice(due, _MAX_ROOMS)):
            del agenda.unsettled[room]
            self._seating.say_again(room)
            agenda.settle(room)
        for room in list(agenda.lagging):
            if room.overdue(now, PATIENCE):
                agenda.reread(room, "late")
            room.give_up(now - GIVE_UP)
            if not room.lags:
                del agenda.lagging[room]
        self._loader.read_stale()
        self.rooms.drop_idle(self._graces.ending)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_INTERVAL)
            self.sweep()

    async def _enter(
        self,
        room: AttendedRoom,
        session: SessionId,
        user: UserId,
        info: bytes,
        max_members: int | None,
    ) -> bool:
        """Returns whether the user joined with it."""
        for _ in range(_ATTEMPTS):
            seat, is_new = room.sit(user, session, info)
            entering = Entering(session, is_new, max_members)
            self._seating.say(room, user, seat, entering)
            said = await entering.answer
            if isinstance(said, HubbubError):
                raise Unavailable(said.message) from said
            if said.happened == FULL:
                raise RoomFull(f"{room.id} holds {max_members} members")
            try:
                if not room.has(said.life, said.revision):
                    self._agenda.lagging[room] = None
                    await room.told(said.life, said.revision, self._agenda.now())
            except Unavailable:
                if is_new:
                    self._leave(room, session, user, clean=True)
                raise
            if said.happened != OTHER:
                return said.happened == JOINED
        raise Unavailable(f"the store keeps losing {room.id}")

    def _leave(self, room: AttendedRoom, session: SessionId, user: UserId, *, clean: bool) -> None:
        seat = room.rise(user, session, clean=clean)
        if seat is not None:
            self._seating.say(room, user, seat)

    def _tell(self, change: PresenceChange) -> None:
        if self._listener is not None:
            self._listener.presence_changed(change)

    def _store_changed(self) -> None:
        """Redis may have forgotten something, or everything."""
        self.lease.renew_now()
        self.rooms.reread_all("store")
        self.rooms.revisit()
