"""A WebSocket client that knows nothing of hubbub but that frames are JSON."""

import asyncio
import itertools
import json
from collections import deque
from collections.abc import Callable
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

DEADLINE = 20.0  # seconds for whatever a test waits for; far more than it takes

Frame = dict[str, Any]

_markers = itertools.count(1)


async def until(condition: Callable[[], bool], within: float = DEADLINE) -> None:
    """Wait for something that announces itself to nobody. Raises TimeoutError."""
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110  (no event to wait for, see above)
            await asyncio.sleep(0.005)


class Peer:
    """One connection. Every wait has a deadline, and frames are taken in the order they came, but
    for the replies that `ask` picks out."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self._passed_over: deque[Frame] = deque()

    @classmethod
    async def connect(cls, url: str, **options: Any) -> "Peer":
        """`options` are those of websockets' `connect`."""
        quiet: dict[str, Any] = {"ping_interval": None, "proxy": None, "compression": None}
        return cls(await connect(url, **{**quiet, **options}))

    @property
    def subprotocol(self) -> str | None:
        return self.connection.subprotocol

    async def send(self, *frames: object) -> None:
        for frame in frames:
            await self.connection.send(json.dumps(frame))

    async def send_raw(self, frame: str | bytes) -> None:
        await self.connection.send(frame)

    async def receive_raw(self, within: float = DEADLINE) -> str | bytes:
        async with asyncio.timeout(within):
            return await self.connection.recv()

    async def receive(self, within: float = DEADLINE) -> Frame:
        """The next frame, which must be a JSON object in a text frame."""
        if self._passed_over:
            return self._passed_over.popleft()
        return await self._arrival(within)

    async def _arrival(self, within: float = DEADLINE) -> Frame:
        text = await self.receive_raw(within)
        assert isinstance(text, str), text
        frame = json.loads(text)
        assert isinstance(frame, dict), frame
        return frame

    async def expect(self, kind: str, /, **fields: object) -> Frame:
        """The next frame, which must be of this type and have these fields."""
        frame = await self.receive()
        wanted = {"type": kind, **fields}
        assert {name: frame.get(name, ...) for name in wanted} == wanted, frame
        return frame

    async def ask(self, kind: str, /, **fields: object) -> Frame:
        """Send a command of protocol v1 and return its reply. Pushes before it wait their turn."""
        marker = f"ask-{next(_markers)}"
        await self.send({"type": kind, "id": marker, **fields})
        while (frame := await self._arrival()).get("id") != marker:
            self._passed_over.append(frame)
        del frame["id"]
        return frame

    async def is_quiet(self) -> bool:
        """Whether nothing lies unread at a `/v1/ws` connection: a pong overtakes nothing."""
        return await self.ask("ping") == {"type": "pong"} and not self._passed_over

    async def ending(self, within: float = DEADLINE) -> tuple[list[Frame], int | None, str]:
        """The frames until the end, the code of the close (None: there was none), its reason."""
        frames = []
        try:
            while True:
                frames.append(await self.receive(within))
        except ConnectionClosed as end:
            if end.rcvd is None:
                return frames, None, ""
            return frames, end.rcvd.code, end.rcvd.reason

    async def closed(self, within: float = DEADLINE) -> tuple[int | None, str]:
        """Code and reason of the close, which must be the next thing to come."""
        frames, code, reason = await self.ending(within)
        assert not frames, frames
        return code, reason

    async def closed_after_farewell(self) -> tuple[int | None, str]:
        """As `closed`, at `/v1/ws`: nothing but a `disconnect` that says the same comes before."""
        frames, code, reason = await self.ending()
        farewell = [(frame["type"], frame["code"], frame["reason"]) for frame in frames]
        assert farewell == [("disconnect", code, reason)], frames
        return code, reason

    async def close(self, code: int = 1000) -> None:
        """A goodbye."""
        await self.connection.close(code)

    def vanish(self) -> None:
        """Be gone without a goodbye."""
        self.connection.transport.abort()
