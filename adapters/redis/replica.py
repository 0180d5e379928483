"""What one node holds of one room's log, and how it goes on.

Pure and synchronous: what is read from Redis and what the feed says come in, messages to deliver
come out. The rules are those of log matching: a record continues a log when the term before it is
the one held here and nothing is missing in between.
"""

from collections.abc import Iterator, Sequence
from enum import Enum
from typing import NamedTuple

from adapters.redis.records import Record
from domain.lineage import Lineage
from domain.message import Message
from domain.position import Position
from domain.timeline import Timeline

MAX_BUFFER = 1024 * 1024  # bytes of records kept while a room is being read
_ENVELOPE = 300  # bytes of a record besides its data


class Verdict(Enum):
    """NEXT continues the log, OLD is in it already or withdrawn, HOLE needs a look at the log."""

    NEXT = "next"
    OLD = "old"
    HOLE = "hole"


class LogView(NamedTuple):
    """A room's log at one moment, and some of its messages: consecutive, ascending.

    `lineage` is shared by nobody else. Nothing up to `floor` is kept. `expires_in` is in seconds,
    infinite for a log without an end.
    """

    epoch: str
    lineage: Lineage
    top: int
    floor: int
    expires_in: float
    records: Sequence[Record]

    def continues(self, position: Position) -> bool:
        """Whether a reader at this position has seen nothing else, and all that follows is here."""
        if position.epoch != self.epoch:
            return False
        end = self.lineage.end_of(position.term, self.top)
        if end is None or not self.floor <= position.seq <= end:
            return False
        if not self.records:
            return position.seq == self.top
        first, last = self.records[0].message.seq, self.records[-1].message.seq
        return (first, last) == (position.seq + 1, self.top)

    @property
    def begins_here(self) -> bool:
        """Whether this is all there ever was of the epoch."""
        whole = self.floor == 0 and len(self.records) == self.top
        return whole and len(list(self.lineage)) == 1

    def timeline(self, now: float, former: Timeline | None = None) -> Timeline:
        """A copy that holds the messages of this view, which must be the newest. `former`: the
        one that was held before, by whose terms readers go."""
        timeline = Timeline.restore(self.epoch, self.lineage, self.top, self.floor)
        if former is not None:
            timeline.recall(former)
        timeline.expires_at = now + self.expires_in
        timeline.prepend([record.message for record in self.records])
        return timeline

    def beginning(self) -> Timeline:
        """A copy from before its first message."""
        return Timeline.restore(self.epoch, self.lineage, 0, 0)


class Replica:
    """The node's cursor in one room: `timeline.position`.

    While it is `live`, records are judged as they come. Otherwise they wait until the log has
    been read, from before or again; those that came before the reading began are in what is read.

    Messages to deliver are handed out one by one, each in the timeline by then and the next one
    not yet. Who asks for them must take all of them, at once.
    """

    __slots__ = ("_buffer", "_buffered", "_missed", "live", "timeline")

    def __init__(self) -> None:
        self.timeline: Timeline | None = None
        self.live = False
        self._missed = False  # something, since the reading began
        self._buffer: list[Record] = []
        self._buffered = 0

    def receive(self, record: Record, now: float) -> bool:
        """Take what the feed says. Returns whether its message is to be delivered; it is in the
        timeline then. Not `live` any more after a hole."""
        timeline = self.timeline
        if not self.live or timeline is None:
            self._keep(record)
            return False
        verdict = judge(timeline, record)
        if verdict is Verdict.NEXT:
            _append(timeline, record, now)
            return True
        self.live = verdict is not Verdict.HOLE
        return False

    def missed(self) -> None:
        """The feed may have lost something: the log must be read, or read again."""
        self.live = False
        self._missed = True

    def begin_reading(self) -> None:
        """A look at the log is about to be sent off."""
        self.live = False
        self._missed = False
        self._forget_buffer()

    def go_on(self, view: LogView, now: float) -> Iterator[Message]:
        """Continue with what was read, which must continue the cursor, and with what came
        meanwhile."""
        timeline = self._held
        timeline.adopt(view.lineage)
        for record in view.records:
            timeline.append(record.message, record.keep, now)
            yield record.message
        timeline.lost(view.floor)
        timeline.expires_at = now + view.expires_in
        yield from self.settle(now)

    def settle(self, now: float) -> Iterator[Message]:
        """End the reading: continue with what came meanwhile. Live again, unless there is a hole
        in it or something else was missed."""
        timeline, buffer = self._held, self._buffer
        self._forget_buffer()
        for record in buffer:
            verdict = judge(timeline, record)
            if verdict is Verdict.HOLE:
                return
            if verdict is Verdict.NEXT:
                _append(timeline, record, now)
                yield record.message
        self.live = not self._missed

    @property
    def _held(self) -> Timeline:
        if self.timeline is None:
            raise RuntimeError("there is nothing to go on with")
        return self.timeline

    def _keep(self, record: Record) -> None:
        size = len(record.message.data) + _ENVELOPE
        if self._buffered + size > MAX_BUFFER:
            # The newest stays: it is what shows at the end of the reading that some are missing.
            self._forget_buffer()
        self._buffer.append(record)
        self._buffered += size

    def _forget_buffer(self) -> None:
        self._buffer = []
        self._buffered = 0


def judge(timeline: Timeline, record: Record) -> Verdict:
    """Whether a record continues a timeline."""
    message = record.message
    seq, following = message.seq, timeline.top + 1
    if message.log == timeline.log:  # epoch and term, and no term has a dot
        if seq == following:
            return Verdict.NEXT
        return Verdict.OLD if seq < following else Verdict.HOLE
    if record.epoch != timeline.epoch:
        return Verdict.HOLE
    # The start alone would not do: somebody who was deaf for a whole term and lost a tail in it
    # may be where the next term begins, with other messages.
    if record.previous == timeline.term and record.start == following == seq:
        return Verdict.NEXT
    return Verdict.OLD if timeline.lineage.past(record.term) else Verdict.HOLE


def _append(timeline: Timeline, record: Record, now: float) -> None:
    if record.term != timeline.term:
        timeline.begin_term(record.term)
    timeline.append(record.message, record.keep, now)
