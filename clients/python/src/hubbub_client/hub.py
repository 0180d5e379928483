"""The way in: a connection to a hubbub server that lasts."""

import asyncio
import logging
import ssl as ssl_module
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, overload

from hubbub_client import backoff as waits
from hubbub_client import requests
from hubbub_client.backoff import Backoff
from hubbub_client.conversation import Conversation
from hubbub_client.credentials import Credentials, Source
from hubbub_client.errors import ConnectTimeout
from hubbub_client.keeper import Keeper
from hubbub_client.link import Route
from hubbub_client.messages import Page, Position, Published
from hubbub_client.outbox import Outbox
from hubbub_client.room import Room
from hubbub_client.seat import Seat
from hubbub_client.state import State, StateChange

logger = logging.getLogger("hubbub_client")

_CLOSED, _FAULT = 1000, 1011


class Hub:
    """Rooms over one connection, which is made again whenever it is lost."""

    def __init__(
        self,
        url: str,
        token: Source = None,
        *,
        user: str | None = None,
        on_state: Callable[[StateChange], object] | None = None,
        on_room: Callable[[Room], object] | None = None,
        open_timeout: float | None = 20.0,
        max_queue: int = 1000,
        backoff: tuple[float, float] = (waits.FLOOR, waits.CEILING),
        grace: float = 10.0,
        headers: Mapping[str, str] | None = None,
        ssl: ssl_module.SSLContext | None = None,
        proxy: str | Literal[True] | None = True,
    ) -> None:
        """All times are seconds.

        `url`: `wss://rooms.example.com`, or with the path of the door. `token`: a token, or a
        function, sync or async, that fetches one; it is called before the first connection, and
        again when four fifths of a token's life are over. `user`: the name to go by in open mode.
        `on_state` is called with every change of state, `on_room` with each room that the server
        has put you into unasked. `open_timeout`: how long `async with`
        waits for the first connection, tries included; None is for ever. `max_queue`: how much
        waits to be read in a room. `backoff`: the shortest and the longest wait between tries.
        `grace`: how long the server may be silent beyond its ping interval. `headers`, `ssl` and
        `proxy` are as in the library websockets.
        """
        if max_queue < 1:
            raise ValueError("max_queue must be 1 or above")
        self._state = StateChange(State.CONNECTING)
        self._turned = asyncio.Event()  # the state is another one
        self._failure = "nothing was tried"
        self._on_state = on_state
        self._on_room = on_room
        self._open_timeout = open_timeout
        pauses, work = Backoff(*backoff), asyncio.Event()
        self._conversation = Conversation(
            *(Outbox(pauses), max_queue, work.set), None if on_room is None else self._seated
        )
        self._keeper = Keeper(
            *(url, user, Route(headers or {}, ssl, proxy), self._conversation, work),
            credentials=Credentials(token),
            backoff=pauses,
            grace=grace,
            tell=self._tell,
        )
        self._running: asyncio.Task[None] | None = None

    # Coming and going

    async def __aenter__(self) -> Self:
        self.start()
        try:
            await self.connected(self._open_timeout)
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def start(self) -> None:
        """Begin to connect, without waiting for it: what `async with` does for you. Whatever is
        asked of the hub meanwhile waits for the connection."""
        if self._running is None:
            self._running = asyncio.create_task(self._run(), name="hubbub_client")

    async def connected(self, within: float | None = None) -> None:
        """Wait until there is a connection. Raises ConnectTimeout after that many seconds, and
        Disconnected when there will not be one."""
        try:
            async with asyncio.timeout(within):
                while self._state.state is not State.CONNECTED:
                    self._check()
                    self._turned.clear()
                    await self._turned.wait()
        except TimeoutError:
            raise ConnectTimeout(f"no connection in {within} s: {self._failure}") from None

    async def closed(self) -> StateChange:
        """Wait until the hub is closed, by whomever, and return why."""
        while self._state.state is not State.CLOSED:
            self._turned.clear()
            await self._turned.wait()
        return self._state

    async def close(self) -> None:
        """Leave every room and end. Whoever still waits for an answer gets Disconnected."""
        self._keeper.end(_CLOSED, "closed")
        running, self._running = self._running, None
        if running is None:
            return
        try:
            await self._keeper.goodbye()
        finally:
            running.cancel()
            await asyncio.wait({running})
        if not running.cancelled():
            await running  # a fault of ours must not go unseen

    @property
    def state(self) -> StateChange:
        return self._state

    @property
    def user(self) -> str | None:
        """The name the server knows you by; None before the first connection. `@` and the name is
        your personal room, to be joined like any other."""
        return self._conversation.user

    # What to do with it

    async def join(self, room: str, *, history: int = 0, position: Position | None = None) -> Room:
        """Enter a room, and come back into it after every lost connection.

        `history` is how many of the newest messages to begin with; `position` is where to go on
        instead, as far as the server keeps what came since. A room that you are in is returned
        as it is. Raises Refused and Disconnected.
        """
        self._check()
        seat = self._conversation.sit(room, history, position)
        seat.waiters += 1
        try:
            await seat.entry()
        finally:
            seat.waiters -= 1
            if not seat.was_in and not seat.waiters:
                self._conversation.rise(seat)
        return Room(self._conversation, seat)

    @overload
    async def publish(
        self,
        room: str,
        data: Any,
        *,
        key: str | None = None,
        echo: bool = True,
        ephemeral: Literal[False] = False,
    ) -> Published: ...

    @overload
    async def publish(self, room: str, data: Any, *, ephemeral: Literal[True]) -> bool: ...

    async def publish(
        self,
        room: str,
        data: Any,
        *,
        key: str | None = None,
        echo: bool = True,
        ephemeral: bool = False,
    ) -> Published | bool:
        """Publish any JSON value, once, and return its position, over as many connections as that
        takes. You need not be in the room.

        Without `echo` it does not come back to you as a message. With a `key` of your own you may
        go on trying after a cancelled call, or in another process. Cancelled, it is not sent
        (again). An `ephemeral` message is delivered now or never: the result is whether the
        server took it. Raises Refused (too large, not granted, …), OutcomeUnknown, Disconnected,
        and TypeError or ValueError for what is no JSON.
        """
        self._check()
        if not ephemeral:
            return await requests.publish(self._conversation, room, data, key, echo)
        return await requests.signal(self._conversation, room, data)

    async def history(
        self,
        room: str,
        *,
        before: Position | None = None,
        after: Position | None = None,
        limit: int = 100,
    ) -> Page:
        """At most 100 messages before or after a position, or the newest. You need not be in the
        room. Raises Refused and Disconnected."""
        self._check()
        return await requests.history(self._conversation, room, before, after, limit)

    # Inside

    def _check(self) -> None:
        if self._conversation.over is not None:
            raise self._conversation.over.with_traceback(None)
        if self._running is None:
            raise RuntimeError("the hub is not started: `async with connect(…) as hub`")

    def _tell(self, change: StateChange) -> None:
        if self._state.state is State.CLOSED:
            return
        self._state = change
        self._turned.set()
        if change.state is State.OFFLINE:
            self._failure = change.reason
        _call(self._on_state, change)

    def _seated(self, seat: Seat) -> None:
        _call(self._on_room, Room(self._conversation, seat))

    async def _run(self) -> None:
        try:
            await self._keeper.run()
        except Exception:
            self._keeper.end(_FAULT, "a fault of the client")
            raise


_Told = TypeVar("_Told")


def _call(callback: Callable[[_Told], object] | None, told: _Told) -> None:
    """What a user does with the news must not end the connection."""
    if callback is not None:
        try:
            callback(told)
        except Exception:
            logger.exception("%r failed at %s", callback, told)


connect = Hub
"""`async with connect(url, token) as hub` reads better."""
