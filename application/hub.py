"""This node's part of every room: who is connected, which rooms are live, who is in them."""

import asyncio
import logging
from collections.abc import Collection
from dataclasses import replace

from application.fan_out import FanOut
from application.live_room import LiveRoom
from application.log_reader import LogReader
from application.ports.broadcasting import Broker, BrokerListener
from application.ports.directory import Directory
from application.ports.metrics import Metrics
from application.ports.presence import Presence, PresenceListener
from application.session import Membership, Session
from domain.errors import HubbubError, OverCapacity
from domain.identifiers import RoomId, SessionId, UserId, owner
from domain.member import PresenceChange
from domain.message import Message
from domain.options import RoomOptions
from domain.room import Room

logger = logging.getLogger("hubbub.hub")

SUMMARY_INTERVAL = 1.0  # seconds between two counts of a crowded room, at least


class Hub(BrokerListener, PresenceListener):
    """All rooms with members on this node. Single-threaded, on one event loop."""

    def __init__(
        self,
        broker: Broker,
        presence: Presence,
        directory: Directory,
        metrics: Metrics,
        max_rooms: int,
    ) -> None:
        """`max_rooms` that are live, after which only personal ones still become so: of those there
        are no more than connections, and somebody who opens rooms should keep nobody out."""
        self._broker = broker
        self._max_rooms = max_rooms
        self._directory = directory
        self._presence = presence
        self._metrics = metrics
        self._rooms: dict[RoomId, LiveRoom] = {}
        self.fan_out = FanOut(metrics)
        self.reader = LogReader(broker, self.fan_out, metrics)
        self.sessions: dict[SessionId, Session] = {}
        self._users: dict[UserId, set[Session]] = {}
        metrics.gauge("sessions", lambda: len(self.sessions))
        metrics.gauge("users", lambda: len(self._users))
        metrics.gauge("rooms", lambda: len(self._rooms))
        metrics.gauge("history_rooms", lambda: broker.held.rooms)
        metrics.gauge("history_bytes", lambda: broker.held.bytes)
        metrics.gauge("outbox_bytes", self._waiting)
        metrics.gauge("outboxes_over_half", self._nearly_cut)

    # Sessions

    def register(self, session: Session) -> None:
        self.sessions[session.id] = session
        self._users.setdefault(session.identity.user, set()).add(session)

    def forget(self, session: Session) -> None:
        del self.sessions[session.id]
        user = session.identity.user
        sessions = self._users[user]
        sessions.discard(session)
        if not sessions:
            del self._users[user]

    def sessions_of(self, user: UserId) -> Collection[Session]:
        """The sessions a user has on this node."""
        return self._users.get(user, ())

    def _waiting(self) -> int:
        """Bytes for all sessions together."""
        return sum(session.transport.backlog for session in self.sessions.values())

    def _nearly_cut(self) -> int:
        """Sessions that leave more than half of what may wait for them untaken."""
        return sum(
            2 * session.transport.backlog > session.limits.outbox_bytes
            for session in self.sessions.values()
        )

    # Rooms

    def find(self, room: RoomId) -> LiveRoom | None:
        return self._rooms.get(room)

    async def hold(self, room: RoomId, options: RoomOptions) -> LiveRoom:
        """Make a room live and keep it so until `release`. Raises OverCapacity, Unavailable."""
        live = self._rooms.get(room)
        if live is None:
            self._expect_place_for(room)
            live = self._rooms[room] = LiveRoom(Room(room, options))
        live.holds += 1
        try:
            # Whoever opens the room may be cancelled; then the next of those who wait takes over.
            while not live.open:
                if live.opening is None:
                    await self._open(live)
                else:
                    await asyncio.shield(live.opening)
        except BaseException:
            self.release(live)
            raise
        return live

    def _expect_place_for(self, room: RoomId) -> None:
        if len(self._rooms) >= self._max_rooms and owner(room) is None:
            self._metrics.count("refused_rooms")
            raise OverCapacity(f"this server has {self._max_rooms} rooms open, as many as it may")

    async def _open(self, live: LiveRoom) -> None:
        opening = live.opening = asyncio.get_running_loop().create_future()
        try:
            await self._broker.subscribe(live.room.id, live.room.options.keep)
            timeline = self.reader.timeline(live.room.id)
            live.last = (timeline.log, timeline.top)
            live.open = True
            if owner(live.room.id) is None:
                self._directory.opened(live.room.id)
        except HubbubError as failure:
            opening.set_exception(failure)
            opening.exception()  # perhaps nobody waits
            raise
        finally:
            live.opening = None
            if not opening.done():
                opening.set_result(None)

    def release(self, live: LiveRoom) -> None:
        """Give up a hold; the last one out turns off the light."""
        live.holds -= 1
        self._drop_if_empty(live)

    def _drop_if_empty(self, live: LiveRoom) -> None:
        unused = not live.holds and not live.memberships
        if unused and self._rooms.get(live.room.id) is live:
            del self._rooms[live.room.id]
            self._broker.unsubscribe(live.room.id)
            if live.open and owner(live.room.id) is None:
                self._directory.closed(live.room.id)

    # Members

    def leave(self, membership: Membership) -> None:
        """Take a session out of a room. What was delivered before is still sent to it."""
        live = self._rooms[membership.room.id]
        self.fan_out.remove(live, membership)
        membership.catchup = None
        live.memberships.pop(membership.session.id, None)
        membership.session.memberships.pop(live.room.id, None)
        self._drop_if_empty(live)

    def drained(self, session: Session) -> None:
        """Room again in the session's outbox."""
        for membership in list(session.memberships.values()):
            live = self._rooms[membership.room.id]
            if membership.catchup is not None:
                self.reader.pump(live, membership)
            if membership.held is not None and session.transport.idle:
                self.fan_out.send_held(membership)

    # What the broker and the presence tell

    def deliver(self, message: Message) -> None:
        live = self._rooms.get(message.room)
        if live is None:
            return
        if message.seq:
            live.last = (message.log, message.seq)
        self.fan_out.deliver(live, message)

    def interrupted(self, room: RoomId) -> None:
        live = self._rooms.get(room)
        if live is not None:
            self.reader.resync(live)

    def presence_changed(self, change: PresenceChange) -> None:
        live = self._rooms.get(change.room)
        if live is None:
            return
        if live.room.crowds(change.count):
            live.summary_due = True
            return
        self.fan_out.broadcast(live, lambda dialect: dialect.presence_change(change))

    async def run(self) -> None:
        """What members wait for and nobody's frame brings about, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.reader.run(), name="log reader")
            tasks.create_task(self._summarise_crowds(), name="summaries")

    async def _summarise_crowds(self) -> None:
        """Tell the counts of crowded rooms, at most once a second."""
        while True:
            await asyncio.sleep(SUMMARY_INTERVAL)
            for live in [room for room in self._rooms.values() if room.summary_due]:
                await self.summarise(live)

    async def summarise(self, live: LiveRoom) -> None:
        """Tell one crowded room its count, or the whole list once it is calm again."""
        live.summary_due = False  # before asking: what changes from here on is for the next round
        try:
            limit = live.room.options.presence_limit
            snapshot = await self._presence.snapshot(live.room.id, limit)
        except HubbubError as failure:
            logger.warning("no presence of %s now: %s", live.room.id, failure.code)
            live.summary_due = True
            return
        if live.room.calms(snapshot.count):
            live.room.calm()
        if live.room.crowded:
            snapshot = replace(snapshot, members=None)
        room = live.room.id
        self.fan_out.broadcast(live, lambda dialect: dialect.presence_summary(room, snapshot))
