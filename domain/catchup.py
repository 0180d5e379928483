"""The way of one member from where it stood to the live end of a room."""

from domain.position import Position
from domain.timeline import MAX_PAGE_BYTES, Outcome, Replay, Timeline


class CatchUp:
    """A cursor, not a copy: pages are read from the timeline when there is room to send them.

    While it is under way the member gets no live messages; each `step` reads on from the cursor
    in the timeline as it is then. When `done`, the member may go live in the same breath: nothing
    can be numbered between the check and the switch as long as the caller does not wait.

    `until` bounds a member that is already live and only wants what was before it came.
    """

    __slots__ = ("_position", "_then", "_until")

    def __init__(self, position: Position, until: int | None = None) -> None:
        self._position = position
        self._until = until
        self._then: Position | None = None

    @property
    def position(self) -> Position:
        """The position after what was read."""
        return self._position

    @property
    def onward(self) -> Position | None:
        """Where it goes on once the bound is reached, None for one that has no bound, or ends
        there."""
        return self._then

    def done(self, timeline: Timeline) -> bool:
        """Whether nothing is left to read."""
        if self._until is None:
            return self._position == timeline.position
        return self._bound_reached(timeline) and self._then in (None, timeline.position)

    def lacks(self, timeline: Timeline) -> int | None:
        """As `Timeline.lacks`, for the next `step`."""
        onward = self._then is not None and self._bound_reached(timeline)
        return timeline.lacks(self._then if onward else self._position)

    def lower(self, until: int) -> None:
        """Read no further than `until` where the bound is above it."""
        if self._until is not None:
            self._until = min(self._until, until)

    def then(self, position: Position) -> None:
        """Go on from `position` to the live end once the bound is reached."""
        self._then = position

    def step(self, timeline: Timeline, max_bytes: int = MAX_PAGE_BYTES) -> Replay:
        """The next page. An outcome other than OK means that the log moved away under the
        cursor, and has to be told."""
        if self._then is not None and self._bound_reached(timeline):
            self._position, self._until, self._then = self._then, None, None
        replay = clip(timeline.recover(self._position, max_bytes=max_bytes), self._until)
        self._position = replay.position
        if replay.recovery.outcome is Outcome.RESET:
            self._until = self._then = None  # from here on it is at the end of another log
        return replay

    def _bound_reached(self, timeline: Timeline) -> bool:
        if self._until is None:
            return False
        # A log may have become shorter than the bound: there is nothing more before it then.
        at, end = self._position, min(self._until, timeline.top)
        return at.seq >= end or at.epoch != timeline.epoch


def clip(replay: Replay, until: int | None) -> Replay:
    """Leave out messages above `until`, as if the log ended there."""
    if until is None or not replay.messages or replay.position.seq < until:
        return replay
    kept = [message for message in replay.messages if message.seq <= until]
    end = kept[-1].seq if kept else replay.messages[0].seq - 1
    return Replay(replay.recovery, kept, replay.position._replace(seq=end), False)
