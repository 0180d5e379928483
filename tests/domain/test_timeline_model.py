"""Random lives of a room's log, with a list that forgets nothing as the judge.

The log is kept by a store that may fall back: lose its newest messages and go on numbering from
there under a new term. What a reader had seen is remembered message by message, so the judge
finds out by comparing messages what Timeline has to find out from a position alone.
"""

from collections.abc import Callable
from itertools import count, takewhile

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from domain.identifiers import RoomId, UserId
from domain.message import Draft, Message
from domain.options import Retention
from domain.position import Position
from domain.timeline import Outcome, PageRequest, Recovery, Replay, Timeline

EPOCH = "e1"
REMEMBERED_TERMS = 16
SMALL, LARGE = 1, 100_000  # bytes
LARGE_IN_A_PAGE = 2  # of 256 KiB, whatever small ones are between them


class Everything:
    """All messages there ever were in this life of the log, and how many of them are forgotten."""

    def __init__(self, term: str) -> None:
        self.messages: list[Message] = []
        self.forgotten = 0
        self.terms = [term]
        self.expires_at = float("inf")

    def append(self, message: Message, keep: Retention, now: float) -> None:
        self.messages.append(message)
        self.forgotten = max(self.forgotten, len(self.messages) - keep.size)
        self.expires_at = now + keep.ttl

    def begin_term(self, term: str) -> None:
        self.terms.append(term)

    def expire(self, now: float) -> bool:
        before = self.forgotten
        if now >= self.expires_at:
            self.forgotten = len(self.messages)
        return self.forgotten > before

    def verdict(self, term: str, seen: list[Message]) -> Recovery:
        """What somebody must be told who has seen these messages, all there were by then."""
        if term not in self.terms[-REMEMBERED_TERMS:]:
            return Recovery(Outcome.RESET)
        common = sum(1 for _ in takewhile(_alike, zip(seen, self.messages, strict=False)))
        if common < len(seen):
            kept = common >= self.forgotten
            return Recovery(Outcome.REWOUND, valid_to=common) if kept else Recovery(Outcome.RESET)
        if common < self.forgotten:
            return Recovery(Outcome.GAP, first=self.forgotten + 1)
        return Recovery(Outcome.OK)

    def kept(self, first: int, last: int | None = None) -> list[Message]:
        """The kept messages from seq `first` to seq `last`."""
        return self.messages[max(first - 1, self.forgotten) : last]


def _alike(pair: tuple[Message, Message]) -> bool:
    return pair[0].id == pair[1].id


def page_of(messages: list[Message], limit: int) -> list[Message]:
    """As many as fit on a page, from the first on."""
    page: list[Message] = []
    for message in messages[:limit]:
        if sum(len(m.data) == LARGE for m in [*page, message]) > LARGE_IN_A_PAGE:
            break
        page.append(message)
    return page


class Life(RuleBasedStateMachine):
    """Every position there ever was is asked about again after every step."""

    def __init__(self) -> None:
        super().__init__()
        self.fresh = map("{}".format, count(1))
        self.first_term = f"t{next(self.fresh)}"
        self.log = Timeline(EPOCH, self.first_term)
        self.all = Everything(self.first_term)
        self.events: list[Callable[[Timeline | Everything], object]] = []
        self.opens_log = True
        self.now = 0.0
        # What was there up to a position when it was the newest, or on the way to it.
        self.seen: dict[Position, list[Message]] = {}

    def happen(self, event: Callable[[Timeline | Everything], object]) -> None:
        self.events.append(event)
        assert event(self.log) == event(self.all)

    @rule(
        sizes=st.lists(st.sampled_from([SMALL, SMALL, LARGE]), min_size=1, max_size=5),
        keep=st.builds(Retention, st.sampled_from([0, 2, 5, 20]), st.sampled_from([5.0, 50.0])),
    )
    def publish(self, sizes: list[int], keep: Retention) -> None:
        for size in sizes:
            draft = Draft(RoomId("chat"), UserId("ann"), b"1" * size)
            message = self.log.number(draft, f"m{next(self.fresh)}", self.now)
            assert message.seq == len(self.all.messages) + 1
            assert message.log == f"{EPOCH}.{self.all.terms[-1]}"
            assert message.opens_log == self.opens_log
            self.append(message, keep, self.now)
            self.opens_log = False

    def append(self, message: Message, keep: Retention, now: float) -> None:
        self.happen(lambda log: log.append(message, keep, now))

    @rule(seconds=st.sampled_from([1.0, 5.0, 20.0]))
    def time_passes(self, seconds: float) -> None:
        now = self.now = self.now + seconds
        self.happen(lambda log: log.expire(now))

    @rule()
    def begin_term(self) -> None:
        term = f"t{next(self.fresh)}"
        self.happen(lambda log: log.begin_term(term))
        self.opens_log = True

    @rule(lost=st.integers(0, 8))
    def fall_back(self, lost: int) -> None:
        """Another store takes over that never heard of the last few events."""
        del self.events[max(0, len(self.events) - lost) :]
        self.log, self.all = Timeline(EPOCH, self.first_term), Everything(self.first_term)
        for event in self.events:
            event(self.log)
            event(self.all)
        self.begin_term()

    @rule(behind=st.integers(0, 12))
    def read_slowly(self, behind: int) -> None:
        """Somebody in the middle of catching up has an old seq under the present term."""
        seq = max(0, self.log.top - behind)
        self.seen[Position(EPOCH, seq, self.log.term)] = self.all.messages[:seq]

    @invariant()
    def every_position_is_judged_right(self) -> None:
        self.seen[self.log.position] = list(self.all.messages)
        for position, seen in self.seen.items():
            self.check(
                self.log.recover(position, 3), self.all.verdict(position.term, seen), position
            )

    def check(self, replay: Replay, recovery: Recovery, position: Position) -> None:
        assert replay.recovery == recovery
        if recovery.outcome is Outcome.RESET:
            assert (replay.messages, replay.more) == ([], False)
            assert replay.position == self.log.position
            return
        start = position.seq if recovery.valid_to is None else recovery.valid_to
        rest = self.all.kept(start + 1)
        assert replay.messages == page_of(rest, 3)
        assert replay.more == (len(replay.messages) < len(rest))
        end = max(start, self.all.forgotten) + len(replay.messages)
        assert replay.position == Position(EPOCH, end, self.log.term)

    @rule(limit=st.sampled_from([1, 4, 100]))
    def everybody_catches_up(self, limit: int) -> None:
        """Page after page, nobody misses or repeats anything that is kept."""
        for position in self.seen:
            replay = self.log.recover(position, limit)
            start = replay.position.seq - len(replay.messages)
            read = list(replay.messages)
            while replay.more:
                replay = self.log.recover(replay.position, limit)
                assert replay.recovery == Recovery(Outcome.OK)
                assert replay.messages
                read += replay.messages
            assert read == self.all.messages[start:]
            assert replay.position == self.log.position

    @rule(asked=st.integers(0, 10))
    def latest(self, asked: int) -> None:
        newest = self.all.kept(len(self.all.messages) - asked + 1)
        replay = self.log.latest(asked)
        assert replay.recovery == Recovery(Outcome.NONE)
        assert replay.messages == page_of(newest, 100)
        assert replay.more == (len(replay.messages) < len(newest))
        unread = len(newest) - len(replay.messages)
        assert replay.position == self.log.position._replace(seq=self.log.top - unread)

    @rule(seq=st.integers(0, 20), limit=st.integers(1, 4))
    def read_on(self, seq: int, limit: int) -> None:
        rest = self.all.kept(seq + 1)
        page = self.log.page(PageRequest(after=seq, limit=limit))
        assert page == (self.log.log, page_of(rest, limit), page.more)
        assert page.more == (len(page.messages) < len(rest))

    @rule(seq=st.none() | st.integers(1, 20), limit=st.integers(1, 4))
    def read_back(self, seq: int | None, limit: int) -> None:
        rest = self.all.kept(1, None if seq is None else seq - 1)
        page = self.log.page(PageRequest(before=seq, limit=limit))
        assert page == (self.log.log, page_of(rest[::-1], limit)[::-1], page.more)
        assert page.more == (len(page.messages) < len(rest))

    @invariant()
    def counts_agree(self) -> None:
        assert self.log.top == len(self.all.messages)
        assert self.log.first == self.all.forgotten + 1
        assert self.log.position == Position(EPOCH, self.log.top, self.all.terms[-1])


TestTimeline = Life.TestCase
TestTimeline.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
