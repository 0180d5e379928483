"""One connection to a Redis: commands go out in order, replies come back in order.

It retries nothing and knows neither keys nor scripts. What it is told in one turn of the loop
leaves in one write, and a reply costs one call: `redis-py` alone costs more than a message may.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final, cast

import hiredis
from hiredis import HiredisError, PushNotification, Reader

from adapters.redis.addresses import Address

OPEN_DEADLINE = 1.5  # seconds until a new connection must be ready
CLIENT_NAME = "hubbub"
_NOTHING: Final = object()

Word = str | bytes | int | float
Command = tuple[Word, ...]

# Its stub has a tuple of one word only.
pack = cast(Callable[[Command], bytes], hiredis.pack_command)


def pack_part(*words: Word) -> bytes:
    """A part of a command: `*N` and parts of N words together are what `pack` makes."""
    return pack(words).partition(b"\r\n")[2]


class ReplyError(Exception):
    """Redis refused. `code` is the first word: what programs act on."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text
        self.code = text.partition(" ")[0]


class LinkLost(Exception):
    """No connection, or none any more. A command it had been given may or may not be done."""


Done = Callable[[Any], None]
"""Is called once, with the reply, a ReplyError or LinkLost; not with an error of the caller's."""


class Link(asyncio.Protocol):
    """A connection that speaks RESP3. Made by `open` only.

    What Redis says unasked, and an error nobody waits for, goes to `pushed`: a subscription is
    confirmed by a push, but refused by an error. `lost` is called once when the connection ends
    for whatever reason, after every waiting `done`; with the error if it ended by a bug of a
    callback, else with a LinkLost.
    """

    def __init__(self, pushed: Done | None, lost: Callable[[Exception], None] | None) -> None:
        self.client_id = 0  # what this connection is called at the server
        self.role = ""  # of the server: `master` or `replica`; a Sentinel has none
        self.heard = False  # for whoever watches: set whenever something arrives
        self.is_open = False
        self._loop = asyncio.get_running_loop()
        self._pushed = pushed
        self._lost = lost
        self._waiting: deque[Done] = deque()
        self._out: list[bytes] = []
        self._reader = Reader(replyError=ReplyError, notEnoughData=_NOTHING)
        self._transport: asyncio.Transport | None = None
        self._failure: Exception | None = None  # why it is being ended

    @classmethod
    async def open(
        cls,
        address: Address,
        *,
        pushed: Done | None = None,
        lost: Callable[[Exception], None] | None = None,
        deadline: float = OPEN_DEADLINE,
    ) -> "Link":
        """Connect and introduce ourselves. Raises LinkLost, and ReplyError for a refusal.

        `lost` is not called for a connection that did not come about.
        """
        link = cls(pushed, None)
        try:
            async with asyncio.timeout(deadline):
                await link._connect(address)
                await link._introduce(address)
        except (OSError, TimeoutError, UnicodeError) as error:  # the last: a host no name can be
            link.close()
            raise LinkLost(_reason(error)) from error
        except BaseException:
            link.close()
            raise
        link._lost = lost
        return link

    @property
    def in_flight(self) -> int:
        """Commands without a reply so far."""
        return len(self._waiting)

    def send(self, command: Command, done: Done) -> None:
        """Send a command. Raises TypeError for a word that is none."""
        self.send_packed(pack(command), done)

    def send_packed(self, packed: bytes, done: Done) -> None:
        """Send a command that `pack` made."""
        if not self.is_open:
            done(LinkLost("not connected"))
            return
        self._waiting.append(done)
        self._write(packed)

    def send_unanswered(self, command: Command) -> None:
        """Send a command that is answered by pushes, or by an error: see `pushed`."""
        if self.is_open:
            self._write(pack(command))

    async def call(self, *command: Word) -> Any:
        """Raises ReplyError and LinkLost. A cancelled call may be done all the same."""
        reply: asyncio.Future[Any] = self._loop.create_future()
        self.send(command, lambda got: None if reply.done() else reply.set_result(got))
        got = await reply
        if isinstance(got, ReplyError):
            raise got
        if isinstance(got, LinkLost):
            raise LinkLost(*got.args)  # one of its own: `got` is told to everybody who waits
        return got

    def close(self) -> None:
        """End it at once. Everything waiting hears of it in the loop's next turn."""
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    def _write(self, packed: bytes) -> None:
        out = self._out
        if not out:
            self._loop.call_soon(self._flush)
        out.append(packed)

    def _flush(self) -> None:
        data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._out.clear()
        if self.is_open and self._transport is not None:
            self._transport.write(data)

    async def _connect(self, address: Address) -> None:
        if address.path:
            await self._loop.create_unix_connection(lambda: self, address.path)
            return
        await self._loop.create_connection(
            lambda: self, address.host, address.port, ssl=address.tls
        )

    async def _introduce(self, address: Address) -> None:
        hello: Command = ("HELLO", 3)
        if address.username or address.password:
            hello += ("AUTH", address.username or "default", address.password)
        told = await self.call(*hello, "SETNAME", CLIENT_NAME)
        self.client_id = told[b"id"]
        self.role = told.get(b"role", b"").decode()
        if address.db:
            await self.call("SELECT", address.db)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        self.heard = True
        reader, waiting = self._reader, self._waiting
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not _NOTHING:
                if type(reply) is PushNotification:
                    if self._pushed is not None:
                        self._pushed(reply)
                elif waiting:
                    waiting.popleft()(reply)
                else:
                    self._unasked(reply)
        except Exception as error:
            self._fail(error)

    def _unasked(self, reply: Any) -> None:
        if self._pushed is None or not isinstance(reply, ReplyError):
            raise HiredisError("a reply to nothing")
        self._pushed(reply)

    def _fail(self, error: Exception) -> None:
        """End it because of what was received, or because of a callback's bug."""
        if self._failure is None:
            bad = isinstance(error, HiredisError)
            self._failure = LinkLost(f"not Redis: {error}") if bad else error
        self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        self._out.clear()
        end = self._failure or LinkLost(_reason(exc) if exc else "closed")
        told = end if isinstance(end, LinkLost) else LinkLost("ended by a bug")
        while self._waiting:
            try:
                self._waiting.popleft()(told)
            except Exception as error:  # a bug, told to `lost`; the others must hear all the same
                end = error
        if self._lost is not None:
            self._lost(end)


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__
