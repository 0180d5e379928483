"""One room's messages: where we are in its log, and what waits to be read.

Section 5 of PROTOCOL.md, without sockets and clocks. A reader that does not keep up is not allowed
to hold up the connection, which other rooms share, nor to take memory without a bound. So a full
queue takes no more: the stream lags, and what it left out is read from the server's history, page
by page, as the queue empties. Whatever is not kept there any more is told as a gap.
"""

from collections import deque
from typing import Any

from hubbub_client.messages import Event, Frame, Gap, Message, Position, Recovered

_MAX_PAGE = 100  # messages


class Discontinuity(Exception):
    """What came does not continue what was there. The position is right, so coming back from it
    on another connection is the cure."""


class Stream:
    """`position` is where to resume, after all that is queued; `taken` is the position after what
    has been read from the queue. Both are None until the room was entered once.
    """

    def __init__(self, room: str, limit: int, position: Position | None = None) -> None:
        self._room = room
        self._limit = limit
        self.position = self.taken = position
        # An item without an event only moves `taken`.
        self._items: deque[tuple[Event | None, Position | None]] = deque()
        self._lagging = False
        self._top = 0  # the highest seq left out while lagging
        # Own messages that do not come back: the seqs known from acks, and how many are not yet.
        self._own: set[int] = set()
        self._silent = 0

    def __bool__(self) -> bool:
        """Whether `take` has something."""
        return any(event is not None for event, _ in self._items)

    def take(self) -> Event | None:
        while self._items:
            event, position = self._items.popleft()
            if position is not None:
                self.taken = position
            if event is not None:
                return event
        return None

    # Frames

    def replay(self, frame: Frame) -> None:
        """The answer to a join."""
        self._lagging = False
        self._silent = 0
        self._replay(frame)

    def resync(self, frame: Frame) -> None:
        if self._lagging:
            raise Discontinuity("a resync while catching up")
        self._replay(frame)

    def _replay(self, frame: Frame) -> None:
        recovery, messages = frame["recovery"], frame["messages"]
        end = Position.of(frame["position"])
        start = Position(end.log, messages[0]["seq"] - 1) if messages else end
        self._own.clear()
        self._top = 0
        self._verdict(recovery, len(messages), start)
        self.position = start
        for message in messages:
            self._offer(Message.of(self._room, message, end.log))
        if not self._lagging:
            self._move(end)

    def _verdict(self, recovery: Frame, count: int, start: Position) -> None:
        match recovery["outcome"]:
            case "none":
                self._mark(start)
            case "ok":
                self.happened(Recovered(count))
                if self.position is not None and start.seq > self.position.seq and count:
                    self._tell(Gap("gap", first=start.seq + 1), start)
            case outcome:
                gap = Gap(outcome, recovery.get("first"), recovery.get("valid_to"))
                self._tell(gap, start)

    def message(self, frame: Frame) -> None:
        if frame.get("ephemeral"):
            self.happened(Message.of(self._room, frame, None))
            return
        if self.position is None:
            return
        seq, at = frame["seq"], self.position.seq
        if self._lagging:
            self._top = max(self._top, seq)
            return
        if seq <= at:
            if frame.get("log") not in (None, self.position.log):
                raise Discontinuity(f"{seq} of another log after {at}")
            return
        first = seq - (frame.get("skipped") or 0)
        missing = first - at - 1 - sum(at < own < first for own in self._own)
        if missing > self._silent:
            raise Discontinuity(f"{missing} messages are missing before {seq}")
        self._offer(Message.of(self._room, frame, self.position.log))

    def sent_silently(self) -> None:
        """A message of ours went out that will not come back."""
        self._silent += 1

    def acknowledged(self, position: Position | None) -> None:
        """Such a message has its place now; None if it was refused one."""
        self._silent = max(0, self._silent - 1)
        at = self.position
        if (
            at is not None
            and position is not None
            and position.log == at.log
            and position.seq > at.seq
        ):
            self._own.add(position.seq)
            if not self._lagging:
                self._move(at)

    def broken(self) -> None:
        """The connection is lost."""
        self._own.clear()
        self._silent = 0

    # Lagging

    @property
    def wants_page(self) -> bool:
        """Whether it is time to ask for what was left out."""
        return self._lagging and len(self._items) <= self._limit // 2

    def page_request(self) -> Frame:
        """The fields of the `history` request for it."""
        assert self.position is not None
        room = max(1, min(_MAX_PAGE, self._limit - len(self._items)))
        return {"after": self.position.seq, "log": self.position.log, "limit": room}

    def page(self, frame: Frame) -> None:
        """The answer to it."""
        if not self._lagging or self.position is None:
            return
        messages = frame["messages"]
        if frame["log"] != self.position.log or (not messages and self.position.seq < self._top):
            raise Discontinuity("what was left out is not to be had")
        self._lagging = False
        if messages and messages[0]["seq"] > self.position.seq + 1:
            first = messages[0]["seq"]
            self._tell(Gap("gap", first=first), Position(frame["log"], first - 1))
        for message in messages:
            self._offer(Message.of(self._room, message, frame["log"]))
        if frame["more"] or self.position.seq < self._top:
            self._lagging = True

    # The queue

    def happened(self, event: Event) -> None:
        """Queue what may be left out when there is no room for it."""
        if len(self._items) < self._limit:
            self._items.append((event, None))

    def _offer(self, message: Message) -> None:
        assert message.position is not None
        if self._lagging or len(self._items) >= self._limit:
            self._lagging = True
            self._top = max(self._top, message.position.seq)
        elif message.position.seq in self._own:
            self._move(message.position)
        else:
            self._items.append((message, message.position))
            self.position = message.position
            if self._own:
                self._move(message.position)

    def _move(self, position: Position) -> None:
        """Go on to a position, and beyond it over messages of our own."""
        seq = position.seq
        while seq + 1 in self._own:
            seq += 1
        self._own = {own for own in self._own if own > seq}
        self.position = Position(position.log, seq)
        self._mark(self.position)

    def _mark(self, position: Position) -> None:
        if self._items and self._items[-1][0] is None:
            self._items.pop()
        if self._items:
            self._items.append((None, position))
        else:
            self.taken = position

    def _tell(self, gap: Gap, position: Position) -> None:
        """Queue what may not be left out."""
        self.position = position
        while self._items and isinstance(last := self._items[-1][0], Gap):
            merged = _merged(last, gap)
            if merged is None:
                break
            self._items.pop()
            gap = merged
        self._items.append((gap, position))


def _merged(earlier: Gap, later: Gap) -> Gap | None:
    """One for two with nothing in between, so that a room nobody reads stays bounded."""
    if later.outcome == "reset":
        return later
    if earlier.outcome != later.outcome:
        return None
    if later.outcome == "gap":
        return later
    bounds: list[Any] = [earlier.valid_to, later.valid_to]
    return Gap("rewound", valid_to=min(bounds))
