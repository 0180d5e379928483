"""The bounded, numbered log of one room, and what a reader is told about it."""

from collections import deque
from collections.abc import Sequence
from enum import StrEnum
from itertools import islice
from typing import NamedTuple

from domain.lineage import Lineage
from domain.message import Draft, Message
from domain.options import Retention
from domain.position import Position

MAX_PAGE_MESSAGES = 100
MAX_PAGE_BYTES = 256 * 1024
_ENVELOPE = 160  # bytes of a message on the wire besides its data and names, rounded up


class Outcome(StrEnum):
    """The verdict on a position somebody came back with."""

    NONE = "none"
    OK = "ok"
    GAP = "gap"
    REWOUND = "rewound"
    RESET = "reset"


class Recovery(NamedTuple):
    """`first` (gap): the oldest seq kept. `valid_to` (rewound): the last seq that still holds."""

    outcome: Outcome
    first: int | None = None
    valid_to: int | None = None


class Replay(NamedTuple):
    """Messages to catch up on, ascending. `position` is the position after them; `more` means
    that further ones are already there."""

    recovery: Recovery
    messages: list[Message]
    position: Position
    more: bool


class PageRequest(NamedTuple):
    """Exclusive seqs, at most one of them; neither asks for the newest. `log` names the log the
    seqs are of; None is whatever log there is."""

    before: int | None = None
    after: int | None = None
    log: str | None = None
    limit: int = MAX_PAGE_MESSAGES
    max_bytes: int = MAX_PAGE_BYTES


class Page(NamedTuple):
    """Messages ascending; `more` means further in the direction asked. An empty page of another
    log than the one asked for means that its seqs are of no use any more."""

    log: str
    messages: list[Message]
    more: bool


class Timeline:
    """Numbers drafts and keeps the newest of them.

    Numbers are consecutive from 1 and outlive the messages: clearing or trimming forgets
    messages, never the count. Time, ids and the epoch come in as arguments.

    A timeline may be a copy of a log that is kept elsewhere (`restore`), with only the newest of
    its messages. Then `lacks` and `covers` say whether the rest is needed for an answer; `prepend`
    takes it in. All other answers are given as if there were no more messages than it has.
    """

    __slots__ = (
        "_messages",
        "_opens",
        "bytes",
        "epoch",
        "expires_at",
        "floor",
        "lineage",
        "log",
        "term",
        "top",
    )

    def __init__(self, epoch: str, term: str, top: int = 0) -> None:
        self.epoch = epoch
        self.term = term
        self.top = top
        self.log = Position(epoch, 0, term).log
        self.expires_at = float("inf")
        self.bytes = 0  # of the messages kept, with what surrounds them
        self._messages: deque[Message] = deque()
        self._opens = True
        self.lineage = Lineage([(term, top)])
        self.floor = top  # nothing up to this seq is kept anywhere

    @classmethod
    def restore(cls, epoch: str, lineage: Lineage, top: int, floor: int) -> "Timeline":
        """A copy, still without messages, of a log that keeps those above `floor`."""
        term, start = lineage.current
        timeline = cls(epoch, term, top)
        timeline._opens = start == top
        timeline.lineage = lineage
        timeline.floor = floor
        return timeline

    @property
    def position(self) -> Position:
        """The position of a reader who has seen everything."""
        return Position(self.epoch, self.top, self.term)

    @property
    def first(self) -> int:
        """The oldest seq kept, or the next one when nothing is kept."""
        return self.top - len(self._messages) + 1

    def number(self, draft: Draft, message_id: str, ts: float) -> Message:
        """Give a draft the next number. It enters the log with `append`."""
        return Message(
            draft.room,
            self.top + 1,
            message_id,
            draft.sender,
            draft.data,
            ts,
            self.log,
            self._opens,
            draft.skip,
        )

    def append(self, message: Message, keep: Retention, now: float) -> None:
        """Add the next message. Raises ValueError for any other: a hole must never be stored."""
        if message.seq != self.top + 1:
            raise ValueError(f"seq {message.seq} does not follow {self.top}")
        self.top = message.seq
        self._opens = False
        self._messages.append(message)
        self.bytes += len(message.data) + _ENVELOPE
        while len(self._messages) > keep.size:
            self.bytes -= len(self._messages.popleft().data) + _ENVELOPE
        if self.top - keep.size > self.floor:
            self.floor = self.top - keep.size
        self.expires_at = now + keep.ttl

    def prepend(self, messages: Sequence[Message]) -> None:
        """Add what comes right before the messages held, ascending. Raises ValueError for a hole.

        What is not kept any more meanwhile is left out.
        """
        for message in reversed(messages):
            before = self.first - 1
            if before <= self.floor:
                return
            if message.seq != before:
                raise ValueError(f"seq {message.seq} is not {before}")
            self._messages.appendleft(message)
            self.bytes += len(message.data) + _ENVELOPE

    def lost(self, seq: int) -> None:
        """Nothing up to `seq` is kept elsewhere any more; what this copy holds stays."""
        self.floor = max(self.floor, min(seq, self.first - 1))

    def begin_term(self, term: str) -> None:
        """Continue the numbering under another reign of the store."""
        self.term = term
        self.log = Position(self.epoch, 0, term).log
        self._opens = True
        self.lineage.begin(term, self.top)

    def adopt(self, lineage: Lineage) -> None:
        """Take over the terms of the log this is a copy of; they continue the ones held here."""
        lineage.recall(self.lineage)
        self.lineage = lineage
        self.term, start = lineage.current
        self.log = Position(self.epoch, 0, self.term).log
        self._opens = start == self.top

    def recall(self, former: "Timeline") -> None:
        """Remember terms that the copy held before knew: readers may stand in one that was lost
        as a whole since."""
        if former.epoch == self.epoch:
            self.lineage.recall(former.lineage)

    def expire(self, now: float) -> bool:
        """Forget all messages once the lifetime since the last one has passed.

        Returns whether anything was forgotten. Single messages do not age.
        """
        if now < self.expires_at or not self._messages:
            return False
        self.clear()
        return True

    def clear(self) -> None:
        """Forget all messages, not the count."""
        self.shed()
        self.floor = self.top

    def shed(self) -> None:
        """Hold no messages; they are still kept elsewhere."""
        self._messages.clear()
        self.bytes = 0

    def lacks(self, after: Position | None, history: int = 0) -> int | None:
        """The seq after which messages kept elsewhere are needed, or None when none are.

        Needed are those for `recover(after)`, and those for `latest(history)` when there is no
        position or it is a RESET.
        """
        if self.first - 1 <= self.floor:
            return None
        needed = self._needed(after, history)
        return needed if needed < self.first - 1 else None

    def disowns(self, position: Position) -> bool:
        """Whether a reader there has seen something that is not in this log: as far as is known
        here, where this is a copy."""
        return self._judge(position).outcome in (Outcome.RESET, Outcome.REWOUND)

    def covers(self, request: PageRequest) -> bool:
        """Whether `page` answers as if every message that is kept were here."""
        if self.first - 1 <= self.floor or request.log not in (None, self.log):
            return True
        if request.after is not None:
            return max(request.after, self.floor) >= self.first - 1
        end = self.top + 1 if request.before is None else min(request.before, self.top + 1)
        return end - min(request.limit, MAX_PAGE_MESSAGES) > self.first or end <= self.floor + 1

    def recover(
        self,
        after: Position,
        max_messages: int = MAX_PAGE_MESSAGES,
        max_bytes: int = MAX_PAGE_BYTES,
    ) -> Replay:
        """What follows `after`, or why that cannot be said (RESET replays nothing)."""
        recovery = self._judge(after)
        match recovery.outcome:
            case Outcome.RESET:
                return Replay(recovery, [], self.position, False)
            case Outcome.GAP:
                seq = self.first - 1
            case Outcome.REWOUND:
                seq = recovery.valid_to or 0
            case _:
                seq = after.seq
        messages, more = self._ascending(seq, max_messages, max_bytes)
        position = Position(self.epoch, messages[-1].seq if messages else seq, self.term)
        return Replay(recovery, messages, position, more)

    def latest(self, count: int, max_bytes: int = MAX_PAGE_BYTES) -> Replay:
        """The newest `count` messages, from the oldest of them on."""
        kept = min(count, len(self._messages))
        if not kept:  # most who join ask for none
            return Replay(Recovery(Outcome.NONE), [], self.position, False)
        start = Position(self.epoch, self.top - kept, self.term)
        return self.recover(start, max_bytes=max_bytes)._replace(recovery=Recovery(Outcome.NONE))

    def page(self, request: PageRequest) -> Page:
        """A page of history, see PageRequest."""
        limit = max(0, min(request.limit, MAX_PAGE_MESSAGES))
        if request.log is not None and request.log != self.log:
            return Page(self.log, [], False)
        if request.after is not None:
            seq = max(request.after, self.first - 1)
            messages, more = self._ascending(seq, limit, request.max_bytes)
        else:
            end = self.top + 1 if request.before is None else min(request.before, self.top + 1)
            messages, more = self._descending(end, limit, request.max_bytes)
        return Page(self.log, messages, more)

    def _judge(self, after: Position) -> Recovery:
        valid_to = self._shared(after)
        if valid_to is None:
            return Recovery(Outcome.RESET)
        if after.seq > valid_to:
            # With the messages right above valid_to gone as well, "rewound" would hide a hole.
            kept = valid_to >= self.first - 1
            return Recovery(Outcome.REWOUND, valid_to=valid_to) if kept else Recovery(Outcome.RESET)
        if after.seq < self.first - 1:
            return Recovery(Outcome.GAP, first=self.first)
        return Recovery(Outcome.OK)

    def _shared(self, after: Position) -> int | None:
        """The last seq that the log of a position has in common with this one, None for none."""
        if after.epoch != self.epoch or after.seq < 0:
            return None
        return self.lineage.end_of(after.term, self.top)

    def _needed(self, after: Position | None, history: int) -> int:
        newest = max(self.floor, self.top - history)
        valid_to = None if after is None else self._shared(after)
        if after is None or valid_to is None or valid_to < min(self.floor, after.seq):
            return newest
        return max(self.floor, min(valid_to, after.seq))

    def _ascending(self, seq: int, limit: int, max_bytes: int) -> tuple[list[Message], bool]:
        start = max(0, seq - self.first + 1)
        return fit(list(islice(self._messages, start, start + limit + 1)), limit, max_bytes)

    def _descending(self, end: int, limit: int, max_bytes: int) -> tuple[list[Message], bool]:
        stop = max(0, end - self.first)
        taken = list(islice(self._messages, max(0, stop - limit - 1), stop))
        taken.reverse()
        messages, more = fit(taken, limit, max_bytes)
        messages.reverse()
        return messages, more


def fit(messages: list[Message], limit: int, max_bytes: int) -> tuple[list[Message], bool]:
    """The longest prefix within both bounds (at least one message), and whether it is not all."""
    size = 0
    for index, message in enumerate(messages):
        size += len(message.data) + _ENVELOPE
        if index >= limit or (index and size > max_bytes):
            return messages[:index], True
    return messages, False
