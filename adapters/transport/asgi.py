"""The portable transport: WebSocket frames through plain ASGI `send`.

Works under any ASGI server. Where the server is ours, the link underneath adds what ASGI lacks:
the size of the write buffer, pings, and an end to a `send` that nobody reads.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from adapters.transport.link import ServerLink
from application.disconnects import Disconnect
from application.framing import messages
from application.ports.transport import Transport, TransportListener

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

CLOSE_DEADLINE = 5.0  # seconds a peer has to take its farewell


class AsgiTransport(Transport):
    """An outbox counted in bytes, and `run`, which empties it. Not reusable."""

    def __init__(self, send: Send, limit: int, link: ServerLink | None = None) -> None:
        """`limit`: bytes of backlog over which the peer counts as too slow."""
        self._send = send
        self._limit = limit
        self._link = link
        self._listener: TransportListener | None = None
        self._queue: deque[str | bytes] = deque()
        self._queued = 0
        self._wakeup = asyncio.Event()
        self._overflown = False
        self._wanted = False  # somebody saw `ready` false and waits for `drained`
        self._disconnect: Disconnect | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._writer: asyncio.Task[Any] | None = None

    def attach(self, listener: TransportListener) -> None:
        self._listener = listener

    def push(self, frames: bytes) -> None:
        if self._disconnect is not None or self._overflown:
            return
        self._enqueue(frames)
        if self.backlog > self._limit:
            self._overflown = True
            asyncio.get_running_loop().call_soon(self._tell_overflow)

    @property
    def backlog(self) -> int:
        return self._queued + (self._link.buffered if self._link is not None else 0)

    @property
    def ready(self) -> bool:
        # Only our own queue: the server takes from it no more than its write buffer holds.
        if self._queued > self._limit // 4:
            self._wanted = True
            return False
        return True

    def _enqueue(self, frames: bytes) -> None:
        for message in messages(frames):
            self._queue.append(message)
            self._queued += len(message)
        self._wakeup.set()

    def ping(self) -> bool:
        return self._link is not None and self._link.send_ping()

    def heard(self) -> bool:
        # Without a link nobody can be pinged, so nobody's silence is held against them.
        return self._link is None or self._link.heard()

    def close(self, disconnect: Disconnect, farewell: bytes | None, *, discard: bool) -> None:
        if self._disconnect is not None:
            return
        if discard:
            self._queue.clear()
            self._queued = 0
        if farewell is not None:
            self._enqueue(farewell)
        self._disconnect = disconnect
        self._deadline = asyncio.get_running_loop().call_later(CLOSE_DEADLINE, self._cut)
        self._wakeup.set()

    async def run(self) -> None:
        """See the port. Without a link the deadline of `close` ends this, and the rest is up to
        the server."""
        self._writer = asyncio.create_task(self._write())
        try:
            await asyncio.wait({self._writer})
            if not self._writer.cancelled():
                self._writer.result()
        except OSError:
            pass  # the peer is gone, which the reading side hears too
        finally:
            self._writer.cancel()
            if self._deadline is not None:
                self._deadline.cancel()

    async def _write(self) -> None:
        while True:
            await self._empty()
            if self._disconnect is not None:
                code, reason, _ = self._disconnect
                await self._send({"type": "websocket.close", "code": code, "reason": reason})
                return
            self._wakeup.clear()
            await self._wakeup.wait()

    async def _empty(self) -> None:
        while self._queue:
            message = self._queue.popleft()
            kind = "text" if isinstance(message, str) else "bytes"
            await self._send({"type": "websocket.send", kind: message})
            self._queued = max(0, self._queued - len(message)) if self._queue else 0
            if self._wanted and self.ready:
                self._wanted = False
                if self._listener is not None:
                    self._listener.drained()

    def _tell_overflow(self) -> None:
        if self._listener is not None:
            self._listener.overflowed()

    def _cut(self) -> None:
        if self._link is not None:
            self._link.abort()
        elif self._writer is not None:
            self._writer.cancel()
