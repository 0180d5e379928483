"""`/v1/ws`: any number of rooms on one connection, protocol v1."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from application.join_room import Joined, JoinRoom
from application.leave_room import LeaveRoom
from application.list_members import ListMembers
from application.ports.broadcasting import Published
from application.ports.encoding import RequestId
from application.ports.metrics import Metrics
from application.publish_message import PublishMessage
from application.read_history import ReadHistory
from application.refresh_token import RefreshToken
from application.session import Session
from domain.errors import BadFrame, HubbubError, NotJoined
from domain.grants import Identity
from domain.identifiers import RoomId, personal_room, room_id, user_id
from domain.position import Position
from domain.timeline import PageRequest
from entrypoints.logs import fields
from entrypoints.wire import replies
from entrypoints.wire.inbound import (
    Auth,
    ClientFrame,
    History,
    Join,
    Leave,
    Members,
    Ping,
    Pong,
    Publish,
    decode,
    request_id,
)
from entrypoints.wire.v1 import V1
from entrypoints.ws.connection import Conversation, Door, Spawn, fail, refuse
from entrypoints.ws.credentials import Scope, query
from entrypoints.ws.gate import Gate
from entrypoints.ws.inbox import Inbox
from entrypoints.ws.room_order import RoomOrder, Work

logger = logging.getLogger("hubbub.connection")


class UseCases(NamedTuple):
    """What a client may ask for."""

    join: JoinRoom
    leave: LeaveRoom
    publish: PublishMessage
    history: ReadHistory
    members: ListMembers
    refresh: RefreshToken | None  # None in open mode: there is no token to renew


class MainDoor(Door):
    def __init__(
        self, gate: Gate, cases: UseCases, metrics: Metrics, limits: Mapping[str, float]
    ) -> None:
        """`limits` is told to clients as it is."""
        self._gate = gate
        self._cases = cases
        self._metrics = metrics
        self._limits = limits
        self.dialect = V1()

    async def identify(self, scope: Scope, inbox: Inbox) -> tuple[Identity, Conversation]:
        name = query(scope, "user") if self._gate.open_mode else None
        named = None if name is None else user_id(name)
        identity = await self._gate.identify(scope, inbox, named)
        return identity, _MainConversation(self._cases, self._metrics, self._limits)


class _MainConversation(Conversation):
    _session: Session
    _spawn: Spawn
    _order: RoomOrder
    _pages: asyncio.Lock

    def __init__(self, cases: UseCases, metrics: Metrics, limits: Mapping[str, float]) -> None:
        self._cases = cases
        self._metrics = metrics
        self._limits = limits

    async def begin(self, session: Session, spawn: Spawn) -> None:
        self._session = session
        self._spawn = spawn
        self._order = RoomOrder(spawn, lambda: session.closed)
        session.invite = self._invited
        self._pages = asyncio.Lock()  # one page of history at a time, as the outbox takes them
        identity = session.identity
        expires_at = identity.expires_at
        left = None if expires_at is None else max(0.0, expires_at - time.time())
        interval = session.limits.ping_interval
        session.send(replies.connected(session.id, identity.user, interval, left, self._limits))
        await self._cases.join(session, personal_room(identity.user), partial(self._joined, None))

    def received(self, frame: str | bytes) -> None:
        try:
            if isinstance(frame, bytes):
                raise BadFrame("frames are text, not binary")
            command = decode(frame)
        except BadFrame as error:
            refuse(self._session, error, request_id(frame))
            return
        try:
            if not isinstance(command, Publish):
                self._session.admit_command()
                self._metrics.count("commands", 1, _KINDS[type(command)])
            _HANDLERS[type(command)](self, command, frame)
        except HubbubError as error:
            refuse(self._session, error, command.id)

    # Commands on one room, in the order sent

    def _publish(self, frame: Publish, sent: str) -> None:
        # Counted as it comes: also what waits takes room here.
        self._session.admit_publish()
        self._order.run(frame.room, partial(self._publish_now, frame), sent)

    def _publish_now(self, frame: Publish) -> None:
        try:
            self._cases.publish(
                self._session,
                frame.room,
                frame.data,
                partial(self._published, frame),
                key=frame.key,
                ephemeral=frame.ephemeral,
                echo=frame.echo,
                admitted=True,
            )
        except HubbubError as error:
            refuse(self._session, error, frame.id)
        except Exception:
            fail(self._session, frame.id)

    def _published(self, frame: Publish, outcome: Published | HubbubError) -> None:
        if isinstance(outcome, HubbubError):
            refuse(self._session, outcome, frame.id)
        else:
            self._session.send(replies.published(frame.id, RoomId(frame.room), outcome))

    def _join(self, frame: Join, sent: str) -> None:
        self._run_in_order(frame, partial(self._join_now, frame), sent)

    async def _join_now(self, frame: Join) -> None:
        at = frame.position
        await self._cases.join(
            self._session,
            frame.room,
            partial(self._joined, frame.id),
            position=None if at is None else Position.parse(at.log, at.seq),
            history=frame.history or 0,
        )

    def _joined(self, request: RequestId | None, joined: Joined) -> None:
        recovery, messages, position, more = joined.replay
        self._session.send(
            replies.joined(
                request, joined.room, position, recovery, messages, more, joined.snapshot
            )
        )

    def _invited(self, room: RoomId) -> None:
        """Somebody else puts this session into a room."""
        try:
            self._order.run(room, lambda: partial(self._enter, room))
        except HubbubError as error:
            self._not_entered(room, error)

    async def _enter(self, room: RoomId) -> None:
        try:
            told = partial(self._joined, None)
            await self._cases.join(self._session, room, told, invited=True)
        except HubbubError as error:
            self._not_entered(room, error)
        except Exception:
            fail(self._session)
        finally:
            self._session.invitations.discard(room)

    def _not_entered(self, room: RoomId, error: HubbubError) -> None:
        self._session.invitations.discard(room)
        known = fields(connection=self._session.id, room=room, cause=error.code)
        logger.info("not put into %s: %s", room, error.code, extra=known)

    def _leave(self, frame: Leave, sent: str) -> None:
        self._order.run(frame.room, partial(self._leave_now, frame), sent)

    def _leave_now(self, frame: Leave) -> None:
        try:
            membership = self._session.memberships.get(room_id(frame.room))
            if membership is None:
                raise NotJoined(f"not in {frame.room}")
            self._cases.leave(membership)
        except HubbubError as error:
            refuse(self._session, error, frame.id)
        except Exception:
            fail(self._session, frame.id)
        else:
            self._session.send(replies.left(frame.id, RoomId(frame.room)))

    def _history(self, frame: History, sent: str) -> None:
        self._run_in_order(frame, partial(self._history_now, frame), sent)

    async def _history_now(self, frame: History) -> None:
        size = self._session.limits.page_bytes
        request = PageRequest(frame.before, frame.after, frame.log, frame.limit, size)
        async with self._pages:
            await self._session.room_for_a_page()
            page = await self._cases.history(self._session.identity, frame.room, request)
            self._session.send(replies.history(frame.id, RoomId(frame.room), page))

    def _members(self, frame: Members, sent: str) -> None:
        self._run_in_order(frame, partial(self._members_now, frame), sent)

    async def _members_now(self, frame: Members) -> None:
        page = await self._cases.members(
            self._session.identity, frame.room, frame.after, frame.limit
        )
        self._session.send(
            replies.members(frame.id, page.room, page.members, page.count, page.version, page.more)
        )

    # Commands on the connection

    def _auth(self, frame: Auth, sent: str) -> None:
        work = partial(self._auth_now, frame)
        # In order: where keys have to be fetched first, an older token must not come out on top.
        self._order.run(None, lambda: partial(self._answer, frame.id, work), sent)

    async def _auth_now(self, frame: Auth) -> None:
        refresh = self._cases.refresh
        left = None if refresh is None else await refresh(self._session, frame.token)
        self._session.send(replies.authenticated(frame.id, left))

    def _ping(self, frame: Ping, _: str) -> None:
        self._session.send(replies.pong(frame.id))

    def _pong(self, frame: Pong, _: str) -> None:
        """A sign of life like any other frame; the transport has noted it already."""

    def _run_in_order(self, frame: Join | History | Members, work: Work, sent: str) -> None:
        self._order.run(frame.room, lambda: partial(self._answer, frame.id, work), sent)

    async def _answer(self, request: RequestId | None, work: Work) -> None:
        try:
            await work()
        except HubbubError as error:
            refuse(self._session, error, request)
        except Exception:
            fail(self._session, request)


_HANDLERS: Mapping[type[ClientFrame], Callable[[_MainConversation, Any, str], None]] = {
    Auth: _MainConversation._auth,
    Join: _MainConversation._join,
    Leave: _MainConversation._leave,
    Publish: _MainConversation._publish,
    History: _MainConversation._history,
    Members: _MainConversation._members,
    Ping: _MainConversation._ping,
    Pong: _MainConversation._pong,
}
_KINDS = {kind: kind.__name__.lower() for kind in _HANDLERS}  # as they are counted
