"""A transport without a connection: keeps what was pushed, and is as slow as a test wants it."""

import asyncio
import json
from typing import Any

from application.disconnects import Disconnect
from application.framing import messages
from application.ports.transport import Receive, Transport, TransportListener

Frame = dict[str, Any]


class RecordingTransport(Transport):
    """Ready without limit until `stall`. `pushes` are the bytes of each push as they came."""

    def __init__(self) -> None:
        self.pushes: list[bytes] = []
        self.disconnect: Disconnect | None = None
        self.farewell: list[Frame] = []
        self.discarded = False
        self.answers_pings = True
        self.pings = 0
        self.holds: list[float] = []
        self._listener: TransportListener | None = None
        self._room: int | None = None  # pushes until not ready any more; None for no limit
        self._wanted = False
        self._heard = False
        self._closed = asyncio.Event()

    # What a test sees and does

    @property
    def frames(self) -> list[Frame]:
        """Everything pushed, decoded."""
        return [json.loads(message) for push in self.pushes for message in messages(push)]

    def stall(self, after: int = 0) -> None:
        """Neither ready nor idle any more after that many pushes from now on."""
        self._room = after

    def drain(self, room: int | None = None) -> None:
        """Ready again for that many pushes, and tell it if somebody waits for it."""
        self._room = room
        if self._wanted:
            self._wanted = False
            self._told_to().drained()

    def overflow(self) -> None:
        """The peer is too slow."""
        self._told_to().overflowed()

    def hear(self) -> None:
        """The peer sends something."""
        self._heard = True

    def _told_to(self) -> TransportListener:
        assert self._listener is not None, "nobody attached"
        return self._listener

    # The port

    def attach(self, listener: TransportListener) -> None:
        assert self._listener is None, "attached twice"
        self._listener = listener

    def push(self, frames: bytes) -> None:
        assert frames, "a push of nothing"
        if self.disconnect is not None:
            return
        self.pushes.append(frames)
        if self._room:
            self._room -= 1

    @property
    def backlog(self) -> int:
        return 0

    @property
    def ready(self) -> bool:
        if self._room == 0:
            self._wanted = True
            return False
        return True

    @property
    def idle(self) -> bool:
        return self.ready

    def ping(self) -> bool:
        self.pings += self.answers_pings
        return self.answers_pings

    def hold(self, seconds: float) -> None:
        self.holds.append(seconds)

    def heard(self) -> bool:
        heard, self._heard = self._heard, False
        return heard

    def close(self, disconnect: Disconnect, farewell: bytes | None, *, discard: bool) -> None:
        if self.disconnect is None:
            self.disconnect = disconnect
            self.farewell = [json.loads(message) for message in messages(farewell or b"")]
            self.discarded = discard
            self._closed.set()

    async def run(self, receive: Receive) -> int:
        await self._closed.wait()
        return 1006
