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
from domain.bookmark import Bookmark
from domain.errors import HubbubError, NotGranted, TooManyRooms, Unavailable
from domain.grants import Action
from domain.identifiers import RoomId, owner, room_id
from domain.member import Attendance, Snapshot
from domain.options import RoomCatalog
from domain.position import Position
from domain.room import Room
from domain.timeline import Replay


class Joined(NamedTuple):
    """`replay` is the first page of what was missed. `snapshot` is None without presence.
    `newcomer`: this was the user's first session in the room."""

    room: RoomId
    replay: Replay
    snapshot: Snapshot | None
    newcomer: bool


class _Wish(NamedTuple):
    """What a session asks for. `invited`: it goes by an invitation rather than by its grants.
    `attends`: it is to be a member, where the room keeps presence."""

    position: Position | None
    history: int
    invited: bool
    attends: bool


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
        position: Position | Bookmark | None = None,
        history: int = 0,
        invited: bool = False,
        attends: bool = True,
    ) -> None:
        """`told` is called with the outcome before anything else of the room is sent. `invited`:
        it takes the invitation of the session in the place of a grant. One that does not `attend`
        reads, and nobody is told.

        Raises BadName, NotGranted, TooManyRooms, RoomFull, OverCapacity, Unavailable; nothing has
        happened then. A session that closes meanwhile is not entered and not told.
        """
        room = room_id(name)
        wish = _Wish(None, history, invited, attends)
        self._allow(session, room, wish)
        membership = session.memberships.get(room)
        if membership is not None:
            at = await self._confirmed(room, position)
            await self._again(membership, told, wish._replace(position=at))
            return
        live = await self._hub.hold(room, self._catalog.of(room))
        try:
            if position is not None:
                wish = wish._replace(position=await self._confirmed(room, position))
            attendance = await self._admit(session, live, wish)
            if not session.closed:
                self._enter(session, live, attendance, told, wish)
        finally:
            self._hub.release(live)

    async def _confirmed(
        self, room: RoomId, position: Position | Bookmark | None
    ) -> Position | None:
        """A position as the log of a live room knows it. Before it is said that the log has not
        what a client saw, perhaps on another node, it is made sure of that."""
        at = self._placed(room, position)
        if at is not None and await self._hub.reader.confirm(room, at):
            return self._placed(room, position)
        return at

    def _placed(self, room: RoomId, position: Position | Bookmark | None) -> Position | None:
        """A position as the log of a live room knows it."""
        if isinstance(position, Bookmark):
            return position.within(self._hub.reader.timeline(room))
        return position

    def _allow(self, session: Session, room: RoomId, wish: _Wish) -> None:
        if not _may_be_in(session, room, wish):
            raise NotGranted(f"no grant to join {room}")
        if wish.history and not session.identity.may(Action.HISTORY, room):
            raise NotGranted(f"no grant to read the history of {room}")
        limit, memberships = session.limits.rooms, session.memberships
        if len(memberships) < limit or room in memberships or owner(room) is not None:
            return
        if session.counted_rooms() >= limit:
            raise TooManyRooms(f"a connection may be in {limit} rooms")

    async def _admit(self, session: Session, live: LiveRoom, wish: _Wish) -> Attendance | None:
        # Before anybody is told of an entry that may come to nothing; and again afterwards, when
        # nothing is waited for any more and it is as a rule still there.
        position, history = wish.position, wish.history
        await self._hub.reader.reach(live.room.id, position, history)
        try:
            attendance = await self._attend(session, live, wish)
            while await self._hub.reader.reach(live.room.id, position, history):
                if attendance is not None:  # who is there may have changed while this waited
                    snapshot = await self._present(live.room)
                    attendance = attendance._replace(snapshot=snapshot)
            self._allow(session, live.room.id, wish)  # again: it may have changed meanwhile
        except BaseException as failure:
            self._withdraw(session, live, wish, clean=isinstance(failure, HubbubError))
            raise
        if session.closed:
            self._withdraw(session, live, wish, clean=False)
        return attendance

    async def _attend(self, session: Session, live: LiveRoom, wish: _Wish) -> Attendance | None:
        if session.closed or not wish.attends or not live.room.keeps_presence:
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

    def _withdraw(self, session: Session, live: LiveRoom, wish: _Wish, *, clean: bool) -> None:
        """Take back an entry that presence may know of although nothing came of it."""
        if not wish.attends or not live.room.keeps_presence:
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
        wish: _Wish,
    ) -> None:
        membership, replay = self._hub.reader.enter(
            session, live, wish.position, wish.history, announced=attendance is not None
        )
        membership.invited = wish.invited
        self._metrics.count("recoveries", label=replay.recovery.outcome)
        snapshot = None if attendance is None else self._listed(live, attendance.snapshot)
        newcomer = attendance is None or attendance.joined
        told(Joined(live.room.id, replay, snapshot, newcomer))
        self._hub.reader.pump(live, membership)

    async def _again(
        self, membership: Membership, told: Callable[[Joined], None], wish: _Wish
    ) -> None:
        room, position, history = membership.room, wish.position, wish.history
        live = self._live(membership)
        await self._hub.reader.reach(room.id, position, history)
        snapshot = await self._present(room) if membership.announced else None
        # Nothing is waited for behind the list: a change pushed meanwhile would be newer than it.
        while self._live(membership) and await self._hub.reader.reach(room.id, position, history):
            snapshot = await self._present(room) if membership.announced else None
        replay = self._hub.reader.reread(live, membership, position, history)
        listed = None if snapshot is None else self._listed(live, snapshot)
        told(Joined(room.id, replay, listed, newcomer=False))
        self._hub.reader.pump(live, membership)

    async def _present(self, room: Room) -> Snapshot:
        return await self._presence.snapshot(room.id, room.options.presence_limit)

    def _live(self, membership: Membership) -> LiveRoom:
        room = membership.room.id
        live = self._hub.find(room)
        if live is None or membership.session.memberships.get(room) is not membership:
            raise Unavailable(f"{room} was left meanwhile")
        return live

    def _listed(self, live: LiveRoom, snapshot: Snapshot) -> Snapshot:
        """Without the list where the room is too crowded for one."""
        if live.room.crowds(snapshot.count):
            return replace(snapshot, members=None)
        return snapshot


def _may_be_in(session: Session, room: RoomId, wish: _Wish) -> bool:
    if wish.invited:
        return room in session.invitations
    membership = session.memberships.get(room)
    return (membership is not None and membership.invited) or session.identity.may(
        Action.JOIN, room
    )
