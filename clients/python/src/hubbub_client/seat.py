"""What the hub keeps of a room that it is in, or wants to be in."""

import asyncio

from hubbub_client.errors import HubbubError
from hubbub_client.messages import Event, Frame, Position
from hubbub_client.roster import Change, Roster
from hubbub_client.stream import Stream


class Ended(Exception):
    """Nothing more will come, and that is how it should be."""


class Seat:
    """`was_in`: the room was entered once."""

    def __init__(
        self, name: str, limit: int, position: Position | None = None, history: int = 0
    ) -> None:
        self.name = name
        self.history = history
        self.stream = Stream(name, limit, position)
        self.roster = Roster()
        self.was_in = False
        self.paging = False  # a page of what the stream left out is on its way
        self.asking = False  # so is a page of the members
        self.waiters = 0  # calls of `join` that wait for us
        self._entered = asyncio.Event()
        self._arrived = asyncio.Event()
        self._end: HubbubError | Ended | None = None

    # For the hub

    def joined(self, frame: Frame) -> None:
        self.stream.replay(frame)
        self._tell(self.roster.listed(frame))
        self.was_in = True
        self._entered.set()
        self._wake()

    def push(self, frame: Frame) -> None:
        """What the server sent unasked. Raises Discontinuity."""
        match frame["type"]:
            case "message":
                self.stream.message(frame)
            case "resync":
                self.stream.resync(frame)
            case "join" | "leave":
                self._tell(self.roster.changed(frame))
            case "presence":
                self._tell(self.roster.counted(frame))
        self._wake()

    def members(self, frame: Frame | None) -> None:
        """The answer to the roster's question; None if it was refused."""
        self.asking = False
        self._tell(self.roster.unavailable() if frame is None else self.roster.page(frame))
        self._wake()

    def page(self, frame: Frame) -> None:
        """A page of what the stream left out. Raises Discontinuity."""
        self.paging = False
        self.stream.page(frame)
        self._wake()

    def broken(self) -> None:
        """The connection is lost."""
        self.paging = self.asking = False
        self.stream.broken()

    def end(self, why: HubbubError | Ended, last: Event | None = None) -> None:
        """Nothing more comes; what is queued can still be read. Only the first end counts."""
        if self._end is None:
            if last is not None:
                self.stream.happened(last)
            self._end = why
            self._entered.set()
            self._wake()

    def _tell(self, changes: list[Change]) -> None:
        for change in changes:
            self.stream.happened(change)

    def _wake(self) -> None:
        if self.stream or self._end is not None:
            self._arrived.set()

    # For the user

    async def entry(self) -> None:
        """Wait until the room was entered once. Raises what kept us out."""
        await self._entered.wait()
        if isinstance(self._end, HubbubError):
            raise self._end.with_traceback(None)

    async def take(self) -> Event:
        """The next event, as soon as there is one. Raises the end of it all."""
        while True:
            event = self.stream.take()
            if event is not None:
                return event
            if self._end is not None:
                raise self._end.with_traceback(None)
            self._arrived.clear()
            await self._arrived.wait()
