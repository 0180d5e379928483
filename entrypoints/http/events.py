"""`/v1/events`: rooms as an event stream, for `EventSource` and `curl`.

A browser's EventSource gives up for ever on any status but 200, cannot read what an error says,
and comes back by itself after everything else. So whoever is not let in gets a 200 and a stream of
one event, `disconnect`, which a page can read. Who may come back later is told when. Who may not
is told so in the id of that event: the browser hands it in with its return, and a 204 ends that.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from application.disconnects import INTERNAL, Disconnect
from application.join_room import JoinRoom
from application.open_session import OpenSession
from application.ports.transport import Transport
from application.session import Session
from domain.errors import Forbidden, HubbubError, NotGranted
from domain.grants import Action, Backend, Identity
from domain.identifiers import SessionId
from entrypoints.http.api.callers import KeyRing
from entrypoints.http.event_request import MAX_ROOMS, EventRequest, read_request
from entrypoints.http.refusals import refusal
from entrypoints.wire import replies
from entrypoints.wire.errors import wire_of
from entrypoints.wire.event_ids import OUT, Stamps, bookmark_of
from entrypoints.wire.events import Events, farewell, opening
from entrypoints.ws.connection import fail, logged
from entrypoints.ws.credentials import Scope, header
from entrypoints.ws.gate import RETRY_AFTER, Gate, arrival, guest, new_connection
from entrypoints.ws.inbox import Receive, Send

Headers = list[tuple[bytes, bytes]]
OpenStream = Callable[
    [Scope, Receive, Send, Headers, Callable[[bytes], bytes] | None], Awaitable[Transport]
]

_HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),  # nginx would wait for its buffer to be full
]
_PATIENCE = (1.0, 3.0)  # seconds until a browser comes back that lost its stream, at random
_LONG_PATIENCE = (RETRY_AFTER, 3.0 * RETRY_AFTER)  # and one for which there was no room


class EventDoor:
    """Lets readers in. An ASGI application for GET and HEAD."""

    def __init__(
        self,
        gate: Gate,
        keys: KeyRing,
        open_session: OpenSession,
        join: JoinRoom,
        open_stream: OpenStream,
    ) -> None:
        self._gate = gate
        self._keys = keys
        self._open_session = open_session
        self._join = join
        self._open_stream = open_stream
        self._stamps = Stamps()
        # One for each kind of stream, as readers share them.
        self._dialects = {
            (alone, presence): Events(alone=alone, presence=presence)
            for alone in (True, False)
            for presence in (True, False)
        }

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        connection = new_connection()
        try:
            request = read_request(scope)
        except HubbubError as error:
            self._gate.refused(scope, connection, error.code)
            await refusal(error)(scope, receive, send)
            return
        try:
            if scope["method"] == "HEAD":
                await _answer(send, 200, _HEADERS)
            elif request.over:
                await _answer(send, 204, [])
            elif (crowded := self._gate.crowded(scope, connection)) is not None:
                transport = await self._open_stream(scope, receive, send, _HEADERS, None)
                await _turn_away(transport, crowded, request)
            else:
                with self._gate.admission.inside(scope):
                    await self._let_in(connection, request, scope, receive, send)
        except OSError:
            return  # gone before there was a session to end

    async def _let_in(
        self,
        connection: SessionId,
        request: EventRequest,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        alone = len(request.rooms) == 1
        stamp = None if alone else self._stamps.stamp(request.rooms, request.marks)
        transport = await self._open_stream(scope, receive, send, _HEADERS, stamp)
        dialect = self._dialects[alone, request.presence]
        try:
            backend = self._backend(scope)
            if backend is None:
                identity = await self._gate.identify_reader(scope, request.user)
            else:
                identity = _nobody(backend, request)
            _check(identity, request)
            now = asyncio.get_running_loop().time()
            session = self._open_session(
                connection, identity, transport, dialect, now, arrival=arrival(scope)
            )
        except HubbubError as error:
            self._gate.refused(scope, connection, error.code)
            await _turn_away(transport, _goodbye(error), request)
            return
        with logged(session, scope):
            await self._begin(session, dialect, request)
            session.lost(await transport.run(_ignore))

    def _backend(self, scope: Scope) -> Backend | None:
        """Who shows an API key, in the header Authorization: addresses are kept in logs. Where
        everybody is let in, it is of no matter."""
        if self._gate.open_mode:
            return None
        kind, _, credential = (header(scope, b"authorization") or "").partition(" ")
        return self._keys.find(credential.strip()) if kind.lower() == "bearer" else None

    async def _begin(self, session: Session, dialect: Events, request: EventRequest) -> None:
        session.send(opening(random.uniform(*_PATIENCE), _connected(session)))
        try:
            for room, mark in zip(request.rooms, request.marks, strict=True):
                if mark != OUT:
                    await self._join(
                        session,
                        room,
                        lambda joined: session.send(dialect.joined(joined)),
                        position=bookmark_of(mark),
                        history=request.history,
                        attends=request.presence,
                    )
        except HubbubError as error:
            session.end(_goodbye(error))
        except Exception:
            fail(session)


def _nobody(backend: Backend, request: EventRequest) -> Identity:
    """Somebody who reads as far as a key reaches. Any name will do: nobody is shown it."""
    if request.presence:
        raise Forbidden("an API key is nobody's member: presence takes the token of a user")
    return Identity(guest(), backend.grants)


def _check(identity: Identity, request: EventRequest) -> None:
    """Refuse a request for a room that may not be read, before anything of the others is sent."""
    for room in request.rooms:
        if not identity.may(Action.JOIN, room):
            raise NotGranted(f"no grant to join {room}")
        if request.history and not identity.may(Action.HISTORY, room):
            raise NotGranted(f"no grant to read the history of {room}")
    if set(request.marks) == {OUT}:
        raise Forbidden("taken out of every room of this stream")


def _connected(session: Session) -> bytes:
    identity = session.identity
    left = None if identity.expires_at is None else max(0.0, identity.expires_at - time.time())
    interval, limits = session.limits.ping_interval, {"rooms": MAX_ROOMS}
    return replies.connected(session.id, identity.user, interval, left, limits)


def _goodbye(error: HubbubError) -> Disconnect:
    return wire_of(error).close or INTERNAL


async def _turn_away(transport: Transport, why: Disconnect, request: EventRequest) -> None:
    final = 4000 <= why.code < 4100
    if why.reconnect_after is None and not final:
        why = why._replace(reconnect_after=round(random.uniform(*_LONG_PATIENCE), 3))
    transport.close(why, farewell(why, request.marks), discard=False)
    await transport.run(_ignore)


async def _answer(send: Send, status: int, headers: Headers) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


def _ignore(frame: str | bytes) -> None:
    """There is nothing that a reader could say."""
