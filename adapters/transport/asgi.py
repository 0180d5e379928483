"""The portable transport: WebSocket frames through plain ASGI `send`.

Works under any ASGI server, within what ASGI lets us see and do: the backlog is our own queue
only, there are no pings, and a `send` that nobody reads ends when the server ends it. A cut is
complete in hub, presence and metrics at once; the socket's end is the server's.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any

from application.disconnects import Disconnect
from application.framing import messages
from application.ports.transport import Receive, Transport, TransportListener

AsgiReceive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

CLOSE_DEADLINE = 5.0  # seconds a peer has to take its farewell


class AsgiTransport(Transport):
    """An outbox counted in bytes, and `run`, which empties it. Not reusable."""

    def __init__(self, receive: AsgiReceive, send: Send, limit: int) -> None:
        """`limit`: bytes of backlog over which the peer counts as too slow."""
        self._receive = receive
        self._send = send
        self._limit = limit
        self._listener: TransportListener | None = None
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._hold_for = 0.0  # seconds that reading rests
        self._wakeup = asyncio.Event()
        self._overflown = False
        self._over = False
        self._drops = 0
        self._sending = False
        self._wanted = False  # somebody saw `ready` or `idle` false and waits for `drained`
        self._disconnect: Disconnect | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._writer: asyncio.Task[Any] | None = None

    def attach(self, listener: TransportListener) -> None:
        self._listener = listener

    def push(self, frames: bytes) -> None:
        if self._disconnect is not None or self._overflown or self._over:
            return
        self._enqueue(frames)
        if self.backlog > self._limit:
            self._overflown = True
            asyncio.get_running_loop().call_soon(self._tell_overflow)

    @property
    def backlog(self) -> int:
        return self._queued

    @property
    def ready(self) -> bool:
        if self._queued > self._limit // 4:
            self._wanted = True
            return False
        return True

    @property
    def idle(self) -> bool:
        # Nobody else gets to run during a send that is through at once.
        if self._sending:
            self._wanted = True
            return False
        return True

    def _enqueue(self, frames: bytes) -> None:
        self._queue.append(frames)
        self._queued += len(frames)
        self._wakeup.set()

    def ping(self) -> bool:
        return False

    def hold(self, seconds: float) -> None:
        self._hold_for = max(self._hold_for, seconds)

    def heard(self) -> bool:
        return True  # nobody can be pinged, so nobody's silence is held against them

    def close(self, disconnect: Disconnect, farewell: bytes | None, *, discard: bool) -> None:
        if self._disconnect is not None or self._over:
            return
        if discard:
            self._drop()
        if farewell is not None:
            self._enqueue(farewell)
        self._disconnect = disconnect
        self._deadline = asyncio.get_running_loop().call_later(CLOSE_DEADLINE, self._cut)
        self._wakeup.set()

    async def run(self, receive: Receive) -> int:
        """See the port. When the deadline of `close` passes, the rest is up to the server."""
        self._writer = asyncio.create_task(self._write())
        reader = asyncio.create_task(self._read(receive))
        both = {self._writer, reader}
        try:
            done, _ = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if self._writer.done() and not self._writer.cancelled():
                self._writer.result()  # a bug must not leave a connection that is never written to
            if reader in done:
                return reader.result()
            if self._disconnect is None:
                return await reader  # writing failed; the reading side hears why
            return 1006
        finally:
            self._over = True
            self._drop()
            if self._deadline is not None:
                self._deadline.cancel()
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)

    async def _read(self, receive: Receive) -> int:
        while True:
            if self._hold_for:
                seconds, self._hold_for = self._hold_for, 0.0
                await asyncio.sleep(seconds)
            event = await self._receive()
            if event["type"] == "websocket.disconnect":
                return event.get("code") or 1005
            text = event.get("text")
            receive((event.get("bytes") or b"") if text is None else text)

    async def _write(self) -> None:
        try:
            while True:
                await self._empty()
                if self._disconnect is not None:
                    await self._send(self._ending(self._disconnect))
                    return
                self._wakeup.clear()
                await self._wakeup.wait()
        except OSError:
            return  # the peer is gone, which the reading side hears too

    async def _empty(self) -> None:
        while self._queue:
            frames, drops = self._queue.popleft(), self._drops
            for event in self._events(frames):
                self._sending = True
                await self._send(event)
                self._sending = False
                if self._drops != drops:
                    break  # what is left of these frames was dropped with the others
            else:
                self._queued -= len(frames)
            if self._wanted and self.ready:
                self._wanted = False
                if self._listener is not None:
                    self._listener.drained()

    def _events(self, frames: bytes) -> Iterator[MutableMapping[str, Any]]:
        """What to send for what was pushed at once."""
        for message in messages(frames):
            kind = "text" if isinstance(message, str) else "bytes"
            yield {"type": "websocket.send", kind: message}

    def _ending(self, disconnect: Disconnect) -> MutableMapping[str, Any]:
        """What to send at the end."""
        return {
            "type": "websocket.close",
            "code": disconnect.code,
            "reason": disconnect.reason,
        }

    def _drop(self) -> None:
        self._queue.clear()
        self._queued = 0
        self._drops += 1

    def _tell_overflow(self) -> None:
        if self._listener is not None:
            self._listener.overflowed()

    def _cut(self) -> None:
        if self._writer is not None:
            self._writer.cancel()
