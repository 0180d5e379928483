"""What comes back: a user of `/v1/ws` with a connection that is made anew as PROTOCOL.md says."""

import asyncio
import random
from abc import abstractmethod
from collections.abc import Callable
from contextlib import suppress

from tests.chaos.connection import Connection, Frame, Refused

_PATIENCE = 10.0  # seconds without a sound, beyond the ping interval
_STEADY = 5.0  # seconds a connection lives before the row of tries begins afresh


class Client:
    """One user, until `stop`. `where` names the port for the next connection, None for none.

    `pace` shortens the pauses that the protocol asks for; 1.0 is what real clients do.
    """

    def __init__(
        self, user: str, where: Callable[[], int | None], rng: random.Random, pace: float = 1.0
    ) -> None:
        self.user = user
        self.connections = 0  # made so far
        self.port = 0  # of the server it is or was last connected to
        self.connection: Connection | None = None
        self.receive_buffer: int | None = None
        self.pace = pace
        self.away = False  # it does not come back for now
        self.frozen = False  # it neither reads nor answers nor wonders
        self._where = where
        self._rng = rng
        self._over = asyncio.Event()
        self._advised: float | None = None
        self._ping_interval = 25.0
        self._code = 0
        self._running = asyncio.create_task(self._run())

    @abstractmethod
    def begin(self, connection: Connection) -> None:
        """It is connected (again)."""

    @abstractmethod
    def take(self, frame: Frame) -> None: ...

    @abstractmethod
    def lost(self, code: int) -> None: ...

    def vanish(self) -> None:
        if self.connection is not None:
            self.connection.vanish()

    def freeze(self) -> None:
        """Stand still, as a process that is stopped, until `thaw`."""
        self.frozen = True
        if self.connection is not None:
            self.connection.stop_reading()

    def thaw(self) -> None:
        self.frozen = False
        if self.connection is not None:
            self.connection.read_on()

    async def stop(self) -> None:
        """Say goodbye. Raises what went wrong in it."""
        self._over.set()
        if self.connection is not None:
            self.connection.close()
        self._running.cancel()
        with suppress(asyncio.CancelledError):
            await self._running

    def check(self) -> None:
        """Raises what went wrong in it."""
        if self._running.done() and not self._running.cancelled():
            self._running.result()

    async def _run(self) -> None:
        tries, loop = 0, asyncio.get_running_loop()
        while not self._over.is_set():
            began = loop.time()
            wait = await self._live()
            if loop.time() - began > _STEADY:
                tries = 0
            # As PROTOCOL.md, section 10.
            if not (4200 <= self._code < 4300 and tries == 0):
                ceiling = min(20.0, 2.0 * 2**tries)
                wait = max(wait, self.pace * self._rng.uniform(0.5, ceiling))
            tries += 1
            await asyncio.sleep(wait)

    async def _live(self) -> float:
        """One connection; returns the seconds it advises to wait."""
        port = None if self.away else self._where()
        self._code, self._advised = 0, None
        if port is None:
            return 0.05
        ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        try:
            self.connection = await Connection.open(
                port,
                f"/v1/ws?user={self.user}",
                self._frame,
                lambda code: None if ended.done() else ended.set_result(code),
                self.receive_buffer,
            )
        except Refused as refusal:
            return refusal.retry_after * self.pace
        except (OSError, TimeoutError):
            return 0.0
        self.connections += 1
        self.begin(self.connection)
        self.port = port
        try:
            self._code = await self._end(self.connection, ended)
        finally:
            self.connection = None
            self.lost(self._code)
        return (self._advised or 0.0) * self.pace

    async def _end(self, connection: Connection, ended: asyncio.Future[int]) -> int:
        """The code of the close. Who hears nothing for too long takes it for dead."""
        loop, patience = asyncio.get_running_loop(), _PATIENCE * self.pace
        while not ended.done():
            await asyncio.wait({ended}, timeout=1.0)
            silence = loop.time() - connection.heard_at
            if silence > self._ping_interval + patience and not self.frozen:
                connection.vanish()
        return ended.result()

    def _frame(self, frame: Frame) -> None:
        if frame["type"] == "disconnect":
            self._advised = frame.get("reconnect_after")
        elif frame["type"] == "connected":
            self._ping_interval = frame["ping_interval"]
        self.take(frame)
