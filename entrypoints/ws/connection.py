"""The life of one WebSocket, the same at every door."""

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

from application.compressed import Compressed
from application.disconnects import BAD_REQUEST, INTERNAL, Disconnect
from application.open_session import OpenSession
from application.ports.encoding import Dialect
from application.ports.transport import Transport
from application.session import Session
from domain.errors import BadFrame, BadName, HubbubError, Internal, MessageTooLarge
from domain.grants import Identity
from domain.identifiers import SessionId
from entrypoints.logs import fields
from entrypoints.wire.errors import wire_of
from entrypoints.ws.credentials import Scope, selected_subprotocol
from entrypoints.ws.gate import Gate, HttpRefusal, arrival, new_connection
from entrypoints.ws.inbox import Inbox, PeerGone, Receive, Send

logger = logging.getLogger("hubbub.connection")

NO_SUCH_DOOR = "no_such_door"

Spawn = Callable[[Coroutine[Any, Any, None]], object]
OpenTransport = Callable[[Scope, Receive, Send], Transport]


class Conversation(ABC):
    """What one door does with one connection once it is let in.

    `heard`, where a door has its own idea of it, tells whether the peer gave a sign of life since
    the last call.
    """

    heard: Callable[[], bool] | None = None

    @abstractmethod
    async def begin(self, session: Session, spawn: Spawn) -> None:
        """Greet, join rooms. Raises HubbubError to end the connection with an error."""

    @abstractmethod
    def received(self, frame: str | bytes) -> None:
        """Act on a frame. Raises HubbubError to answer with an error."""


class Door(Protocol):
    """One endpoint: who may come in, and the conversation they get."""

    dialect: Dialect

    @abstractmethod
    async def identify(self, scope: Scope, inbox: Inbox) -> tuple[Identity, Conversation]:
        """Let somebody in. Raises HubbubError to turn them away."""


class Doorway:
    """Runs a door as an ASGI application."""

    def __init__(
        self,
        door: Door,
        gate: Gate,
        open_session: OpenSession,
        open_transport: OpenTransport,
        frame_limit: int,
    ) -> None:
        """`frame_limit`: bytes of a frame that a door still reads."""
        self._door = door
        self._gate = gate
        self._open_session = open_session
        self._open_transport = open_transport
        self._compressed = Compressed(door.dialect)  # one, as members share it
        self._frame_limit = frame_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        inbox, connection = Inbox(receive), new_connection()
        try:
            await inbox.connect()
            refusal = self._gate.refusal(scope, connection)
            if refusal is not None:
                await _refuse(scope, send, refusal)
                return
            with self._gate.admission.inside(scope):
                await send({"type": "websocket.accept", "subprotocol": selected_subprotocol(scope)})
                await self._converse(scope, inbox, send, connection)
        except (PeerGone, OSError):
            return  # gone before there was a session to end

    async def _converse(
        self, scope: Scope, inbox: Inbox, send: Send, connection: SessionId
    ) -> None:
        transport = self._open_transport(scope, inbox.receive, send)
        dialect = self._compressed if transport.compressed else self._door.dialect
        try:
            identity, conversation = await self._door.identify(scope, inbox)
            now = asyncio.get_running_loop().time()
            session = self._open_session(
                connection,
                identity,
                transport,
                dialect,
                now,
                conversation.heard,
                arrival(scope),
            )
        except HubbubError as error:
            self._gate.refused(scope, connection, error.code)
            _turn_away(transport, dialect, error)
            await transport.run(_ignore)
            return
        with logged(session, scope):
            await self._run(session, conversation)

    async def _run(self, session: Session, conversation: Conversation) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                await self._begin(session, conversation, tasks.create_task)
                receive = partial(self._handle, session, conversation)
                session.lost(await session.transport.run(receive))
                raise _Over
        except* _Over:
            pass

    async def _begin(self, session: Session, conversation: Conversation, spawn: Spawn) -> None:
        try:
            await conversation.begin(session, spawn)
        except HubbubError as error:
            session.send(session.dialect.error(error))
            session.end(_goodbye(error))
        except Exception:
            fail(session)

    def _handle(self, session: Session, conversation: Conversation, frame: str | bytes) -> None:
        if session.closed:
            return
        try:
            # A character has four bytes at most: most frames need not be measured.
            if 4 * len(frame) > self._frame_limit and size_of(frame) > self._frame_limit:
                raise MessageTooLarge(f"a frame may have {self._frame_limit} bytes")
            conversation.received(frame)
        except HubbubError as error:
            refuse(session, error)
        except Exception:
            fail(session)


@contextmanager
def logged(session: Session, scope: Scope) -> Iterator[None]:
    """A line when a connection begins and one when it is over, which it is at the end of this."""
    door, user, began = scope["path"], session.identity.user, time.monotonic()
    known = {"connection": session.id, "door": door, "user": user}
    logger.info("opened at %s by %s", door, user, extra=fields(**known))
    try:
        yield
    finally:
        session.lost(1006)
        seconds = round(time.monotonic() - began, 3)
        logger.info(
            "closed with %s after %.1f s",
            session.close_code,
            seconds,
            extra=fields(**known, code=session.close_code, seconds=seconds),
        )


async def no_such_door(gate: Gate, scope: Scope, receive: Receive, send: Send) -> None:
    """Accept and close, so that a browser can read why and does not come back."""
    gate.refused(scope, new_connection(), NO_SUCH_DOOR)
    code, reason, _ = BAD_REQUEST
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": code, "reason": f"{reason}: no such door"})
    await receive()  # the answer to the close is only read for somebody who listens


def refuse(session: Session, error: HubbubError, request: str | int | None = None) -> None:
    """Answer with an error. What no command was made of counts as a command."""
    try:
        if isinstance(error, BadFrame | MessageTooLarge):
            session.admit_command()
    except HubbubError as limited:
        error = limited
    session.send(session.dialect.error(error, request))


def fail(session: Session, request: str | int | None = None) -> None:
    """Log the exception being handled as a bug of ours and end this connection only."""
    logger.error("ends on an internal error", exc_info=True, extra=fields(connection=session.id))
    session.send(session.dialect.error(Internal("internal error"), request))
    session.end(INTERNAL)


def _ignore(frame: str | bytes) -> None:
    """What somebody who was turned away still says."""


class _Over(Exception):
    """Ends the tasks of a connection."""


def size_of(frame: str | bytes) -> int:
    """Bytes of a frame's content as it came."""
    if isinstance(frame, bytes) or frame.isascii():
        return len(frame)
    return len(frame.encode())


def _goodbye(error: HubbubError) -> Disconnect:
    return wire_of(error).close or INTERNAL


def _turn_away(transport: Transport, dialect: Dialect, error: HubbubError) -> None:
    goodbye = _goodbye(error)
    # A refused credential has asked for nothing that an error could answer: the close says it all.
    refused = dialect.error(error) if isinstance(error, BadName) else None
    frames = [refused, dialect.disconnect(goodbye)]
    farewell = b"".join(frame for frame in frames if frame is not None)
    transport.close(goodbye, farewell or None, discard=False)


async def _refuse(scope: Scope, send: Send, refusal: HttpRefusal) -> None:
    """Answer the upgrade with an HTTP status; with 403 where the server cannot do better."""
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": 1008, "reason": refusal.body})
        return
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    if refusal.retry_after is not None:
        headers.append((b"retry-after", str(refusal.retry_after).encode()))
    await send(
        {"type": "websocket.http.response.start", "status": refusal.status, "headers": headers}
    )
    await send({"type": "websocket.http.response.body", "body": refusal.body.encode()})
