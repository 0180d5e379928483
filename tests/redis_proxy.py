"""A TCP proxy that stands between hubbub and a Redis, or a client, and does what networks do."""

import asyncio
import random
import re
import socket
import ssl
import struct
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

_SUBSCRIBING = re.compile(rb"\r\nS?SUBSCRIBE\r\n", re.IGNORECASE)
_CALLING = b"EVALSHA"
_CHUNK = 65_536


class RedisProxy:
    """Listens on `port` of 127.0.0.1, with TLS when given a context; speaks plainly to Redis.

    A fault lasts until `heal`.
    """

    def __init__(self, target: int, tls: ssl.SSLContext | None = None) -> None:
        self.target = target  # port of the Redis; another one for connections from then on
        self.accepted = 0  # connections so far
        self.chunks = 0  # of requests, as they were read
        self.latency = (0.0, 0.0)  # seconds at least and at most, for each chunk and way
        self.port = 0
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._requests = asyncio.Event()
        self._replies = asyncio.Event()
        self._deaf = False
        self._holding: Callable[[_Connection], bool] = _every
        self._losing: bytes | None = None
        self._delaying: bytes | None = None
        self._lost = asyncio.Event()
        self.heal()

    @property
    def url(self) -> str:
        return f"{'redis' if self._tls is None else 'rediss'}://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """Open now."""
        return len(self._connections)

    async def listen(self) -> None:
        """Accept connections, on the same port as before."""
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", self.port, ssl=self._tls
        )
        self.port = self._server.sockets[0].getsockname()[1]

    def refuse(self) -> None:
        """Let new connections be refused, until `listen`; those there are stay."""
        assert self._server is not None
        self._server.close()

    def drop(self) -> None:
        """Reset every connection."""
        for connection in tuple(self._connections):
            connection.abort()

    def drop_feeds(self) -> None:
        """Reset every connection that has subscribed to something."""
        for connection in tuple(self._connections):
            if connection.subscribed:
                connection.abort()

    def hold_requests(self) -> None:
        """Let nothing more reach Redis."""
        self._requests.clear()

    def hold_replies(self) -> None:
        """Let Redis do what it is told, and nobody hear of it."""
        self._replies.clear()

    def deafen(self) -> None:
        """Throw away what Redis says on connections that have subscribed to something."""
        self._deaf = True

    def hold_scripts(self) -> None:
        """As `hold_replies`, but only on connections that have called scripts: what is published
        is heard meanwhile."""
        self._holding = lambda connection: connection.called
        self._replies.clear()

    def hold_feeds(self) -> None:
        """Read nothing of what is published, so that it piles up at Redis."""
        self._holding = lambda connection: connection.subscribed
        self._replies.clear()

    def strike_deaf(self) -> None:
        """Throw away what Redis says on the connections that have subscribed to something by now,
        for as long as they last; the next ones hear."""
        for connection in self._connections:
            connection.deaf = connection.subscribed

    def lose_reply(self, to: bytes = b"") -> None:
        """Let the reply to the next request that contains `to` be lost with its connection."""
        self._losing = to
        self._lost.clear()

    def delay_request(self, having: bytes) -> None:
        """Reset the client that sends the next request with `having` in it, and keep the request
        on its way to Redis until `heal`."""
        self._delaying = having

    async def reply_lost(self) -> None:
        """Wait until that has happened."""
        await self._lost.wait()

    def heal(self) -> None:
        """End every fault but `refuse`. What was held goes through now."""
        self._requests.set()
        self._replies.set()
        self._deaf = False
        self._holding = _every
        self._losing = self._delaying = None
        for connection in self._connections:
            connection.deaf = False
            connection.going.set()

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        self.heal()
        self.drop()
        await asyncio.gather(*(connection.ended() for connection in tuple(self._connections)))

    async def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        self.accepted += 1
        try:
            upstream = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        connection = _Connection((reader, writer), upstream)
        self._connections.add(connection)
        try:
            await connection.run(self._request, self._reply)
        finally:
            self._connections.discard(connection)

    async def _request(self, connection: "_Connection", data: bytes) -> bytes:
        self.chunks += 1
        await self._requests.wait()
        await self._travel()
        if self._delaying is not None and self._delaying in data:
            self._delaying = None
            await connection.strand()
        if _SUBSCRIBING.search(data):
            connection.subscribed = True
        if _CALLING in data:
            connection.called = True
        if self._losing is not None and self._losing in data:
            self._losing = None
            connection.losing = True
        return data

    async def _reply(self, connection: "_Connection", data: bytes) -> bytes:
        if self._holding(connection):
            await self._replies.wait()
        await self._travel()
        if connection.losing:
            connection.abort()
            self._lost.set()
            return b""
        deaf = connection.deaf or (self._deaf and connection.subscribed)
        return b"" if deaf else data

    async def _travel(self) -> None:
        if any(self.latency):
            await asyncio.sleep(random.uniform(*self.latency))


_Passing = Callable[["_Connection", bytes], Coroutine[Any, Any, bytes]]


class _Connection:
    """One connection of a client and the one to Redis made for it."""

    def __init__(
        self,
        client: tuple[StreamReader, StreamWriter],
        upstream: tuple[StreamReader, StreamWriter],
    ) -> None:
        self.subscribed = False
        self.called = False
        self.losing = False
        self.deaf = False
        self.going = asyncio.Event()
        self._client = client
        self._upstream = upstream
        self._over = asyncio.Event()

    async def run(self, request: _Passing, reply: _Passing) -> None:
        requests = self._pump(self._client[0], self._upstream[1], request)
        replies = self._pump(self._upstream[0], self._client[1], reply)
        pumps = [asyncio.ensure_future(requests), asyncio.ensure_future(replies)]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            self.abort()
            ends = await asyncio.gather(*pumps, return_exceptions=True)
            self._over.set()
        for end in ends:
            if isinstance(end, Exception):
                raise end

    def abort(self) -> None:
        for _, writer in (self._client, self._upstream):
            line = writer.get_extra_info("socket")
            if line is not None:  # over TLS there is none any more once it is closed
                with suppress(OSError):  # it is over already
                    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def strand(self) -> None:
        """Lose the client and go on, without Redis having noticed, when `going` is set."""
        self._client[1].transport.abort()
        await self.going.wait()

    async def ended(self) -> None:
        await self._over.wait()

    async def _pump(self, reader: StreamReader, writer: StreamWriter, passing: _Passing) -> None:
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                if passed := await passing(self, data):
                    writer.write(passed)
                    await writer.drain()


def _every(_: _Connection) -> bool:
    return True


@asynccontextmanager
async def redis_proxy(target: int, tls: ssl.SSLContext | None = None) -> AsyncIterator[RedisProxy]:
    """A proxy that listens."""
    proxy = RedisProxy(target, tls)
    await proxy.listen()
    try:
        yield proxy
    finally:
        await proxy.stop()
