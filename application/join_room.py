"""Use case: a session enters a room and learns what it missed."""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from application.disconnects import is_clean
from application.hub import Hub
from application.live_room import LiveRoom
from application.ports.metrics import Metrics
from application.ports.presence import Presence
from application.session import Membership, Session
from domain.errors import HubbubError, NotGranted, TooManyRooms, Unavailable
from domain.grants import Action
from domain.identifiers import RoomId, owner, room_id
from domain.member import Attendance, Snapshot
from domain.options import RoomCatalog
from domain.position import Position
from domain.timeline import Replay


class Joined(NamedTuple):
    """`replay` is the first page of what was missed. `snapshot` is None without presence.
    `newcomer`: this was the user's first session in the room."""

    room: RoomId
    replay: Replay
    snapshot: Snapshot | None
    newcomer: bool


class JoinRoom:
    """Subscribe, announce, catch up, go live."""

    def __init__(
        self, hub: Hub, presence: Presence, catalog: RoomCatalog, metrics: Metrics
    ) -> None:
        self._hub = hub
        self._presence = presence
        self._catalog = catalog
        self._metrics = metrics

    async def __call__(
        self,
        session: Session,
        name: str,
        told: Callable[[Joined], None],
        *,
        position: Position | None = None,
        history: int = 0,
    ) -> None:
        """`told` is called with the outcome before anything else of the room is sent.

        Raises BadName, NotGranted, TooManyRooms, RoomFull, Unavailable; nothing has happened
        then. A session that closes meanwhile is not entered and not told.
        """
        room = room_id(name)
        self._allow(session, room, history)
        membership = session.memberships.get(room)
        if membership is not None:
            await self._again(membership, told, position, history)
            return
        live = await self._hub.hold(room, self._catalog.of(room))
        try:
            attendance = await self._admit(session, live, history)
            if not session.closed:
                self._enter(session, live, attendance, told, position, history)
        finally:
            self._hub.release(live)

    def _allow(self, session: Session, room: RoomId, history: int) -> None:
        if not session.identity.may(Action.JOIN, room):
            raise NotGranted(f"no grant to join {room}")
        if history and not session.identity.may(Action.HISTORY, room):
            raise NotGranted(f"no grant to read the history of {room}")
        counted = room not in session.memberships and owner(room) is None
        if counted and session.counted_rooms() >= session.limits.rooms:
            raise TooManyRooms(f"a connection may be in {session.limits.rooms} rooms")

    async def _admit(self, session: Session, live: LiveRoom, history: int) -> Attendance | None:
        try:
            attendance = await self._attend(session, live)
            self._allow(session, live.room.id, history)  # again: it may have changed meanwhile
        except BaseException as failure:
            self._withdraw(session, live, clean=isinstance(failure, HubbubError))
            raise
        if session.closed:
            self._withdraw(session, live, clean=False)
        return attendance

    async def _attend(self, session: Session, live: LiveRoom) -> Attendance | None:
        if session.closed or not live.room.keeps_presence:
            return None
        identity, options = session.identity, live.room.options
        return await self._presence.enter(
            live.room.id,
            session.id,
            identity.user,
            identity.info,
            max_members=options.max_members,
            list_limit=options.presence_limit,
        )

    def _withdraw(self, session: Session, live: LiveRoom, *, clean: bool) -> None:
        """Take back an entry that presence may know of although nothing came of it."""
        if not live.room.keeps_presence:
            return
        if session.close_code is not None:  # its close has passed already, without this room
            clean = is_clean(session.close_code)
        self._presence.leave(live.room.id, session.id, session.identity.user, clean=clean)

    def _enter(
        self,
        session: Session,
        live: LiveRoom,
        attendance: Attendance | None,
        told: Callable[[Joined], None],
        position: Position | None,
        history: int,
    ) -> None:
        membership, replay = self._hub.reader.enter(
            session, live, position, history, announced=attendance is not None
        )
        self._metrics.count("recoveries", label=replay.recovery.outcome)
        snapshot = None if attendance is None else self._listed(live, attendance.snapshot)
        newcomer = attendance is None or attendance.joined
        told(Joined(live.room.id, replay, snapshot, newcomer))
        self._hub.reader.pump(live, membership)

    async def _again(
        self,
        membership: Membership,
        told: Callable[[Joined], None],
        position: Position | None,
        history: int,
    ) -> None:
        room = membership.room
        snapshot = (
            await self._presence.snapshot(room.id, room.options.presence_limit)
            if membership.announced
            else None
        )
        live = self._hub.find(room.id)
        if live is None or membership.session.memberships.get(room.id) is not membership:
            raise Unavailable(f"{room.id} was left meanwhile")
        replay = self._hub.reader.reread(live, membership, position, history)
        listed = None if snapshot is None else self._listed(live, snapshot)
        told(Joined(room.id, replay, listed, newcomer=False))
        self._hub.reader.pump(live, membership)

    def _listed(self, live: LiveRoom, snapshot: Snapshot) -> Snapshot:
        """Without the list where the room is too crowded for one."""
        if live.room.crowds(snapshot.count):
            return replace(snapshot, members=None)
        return snapshot
