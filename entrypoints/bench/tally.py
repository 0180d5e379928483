"""The books of the Python load generator: what was sent, what came back, how long it took."""

import re
import secrets
import string
import time
from collections.abc import Callable

from entrypoints.bench.plan import Latencies, Plan

_TAG_LETTERS = 10
_DIGITS = 10
_SEQ = re.compile(rb'"seq":([0-9]+)')
_LOG = re.compile(rb'"log":"([^"]*)"')
_POSITION = re.compile(rb'"position":\{"log":"([^"]*)","seq":([0-9]+)')


class Failure(Exception):
    """The run is worth nothing; the text says why."""


class Account:
    """One connection's: the lowest number that may still come, the room's seq, its position."""

    __slots__ = ("index", "log", "next", "seq")

    def __init__(self, index: int) -> None:
        self.index = index
        self.next = 0
        self.seq = 0
        self.log = ""

    @property
    def position(self) -> str:
        """As JSON."""
        return f'{{"log":"{self.log}","seq":{self.seq}}}'

    def take_position(self, payload: bytes) -> None:
        """A `position` in a frame is where a member stands after the messages in it."""
        found = _POSITION.search(payload)
        if found is not None:
            self.log, self.seq = found[1].decode(), int(found[2])


class Tally:
    """Every message has a marker: `#`, letters drawn for this run, its number. A marker that comes
    back on any connection is one delivery; the number proves that it came once and in order."""

    def __init__(self, plan: Plan) -> None:
        letters = "".join(secrets.choice(string.ascii_lowercase) for _ in range(_TAG_LETTERS))
        self._tag = f"#{letters}"
        self._marker = re.compile(self._tag.encode() + b"([0-9]{%d})" % _DIGITS)
        self._ordered = plan.publishers <= plan.rooms
        self._sent_at: list[float] = []
        self._left: list[int] = []
        self._latencies: list[float] = []
        self.first_counted = 0  # of the phase: what was sent before are stragglers
        self.complete = 0
        self.deliveries = 0
        self.storm_began: float | None = None
        self.returned = 0
        self.last_news = time.monotonic()
        self.on_complete: Callable[[], None] | None = None

    @property
    def sent(self) -> int:
        return len(self._left)

    def begin(self, first: int) -> None:
        """A new phase, of the messages from that number on."""
        self._latencies = []
        self.first_counted = first
        self.complete = self.deliveries = 0
        self.last_news = time.monotonic()

    def register(self, when: float, expected: int) -> str:
        """The marker of a new message that is to reach so many members."""
        self._sent_at.append(when)
        self._left.append(expected)
        return f"{self._tag}{self.sent - 1:0{_DIGITS}d}"

    def arrived(self, number: int) -> bool:
        """Whether a message has reached everybody."""
        return not self._left[number]

    def expect_more(self, members: int) -> None:
        """The messages of this phase go to further members."""
        for number in range(self.first_counted, self.sent):
            self._left[number] += members

    def news(self, latency: float | None = None) -> None:
        """Something went forward, in so many seconds."""
        self.last_news = time.monotonic()
        if latency is not None:
            self._latencies.append(latency)

    def take(self, account: Account, payload: bytes) -> int:
        """Count the messages in a frame; some servers put several into one. Raises Failure."""
        markers = self._marker.findall(payload)
        if markers:
            self.last_news = time.monotonic()
            for marker in markers:
                self._delivered(account, int(marker))
        return len(markers)

    def check_seq(self, account: Account, payload: bytes) -> None:
        """For a frame with one message: its `seq`, where there is one, continues the room's."""
        found = _SEQ.search(payload)
        if found is None:
            return
        seq = int(found[1])
        if account.seq and seq != account.seq + 1:
            raise Failure(f"connection {account.index} got seq {seq} after {account.seq}")
        account.seq = seq
        log = _LOG.search(payload)
        if log is not None:
            account.log = log[1].decode()

    def _delivered(self, account: Account, number: int) -> None:
        if number >= self.sent:
            raise Failure(f"connection {account.index} got message {number}, which nobody sent")
        if self._ordered and number < account.next:
            raise Failure(f"connection {account.index} got message {number} twice or too late")
        account.next = number + 1
        if not self._left[number]:
            raise Failure(f"message {number} came more often than there are members")
        self._left[number] -= 1
        if number < self.first_counted:
            return
        self.deliveries += 1
        self._time(account, number)
        if not self._left[number]:
            self.complete += 1
            if self.on_complete is not None:
                self.on_complete()

    def _time(self, account: Account, number: int) -> None:
        if self.storm_began is None:
            self._latencies.append(max(0.0, self.last_news - self._sent_at[number]))
        elif account.next == self.sent:
            self.returned += 1
            self._latencies.append(self.last_news - self.storm_began)

    def latencies(self) -> Latencies | None:
        """Of the phase so far."""
        if not self._latencies:
            return None
        ascending = sorted(self._latencies)
        count = len(ascending)
        shares = (ascending[int(share * count)] for share in (0.5, 0.9, 0.99))
        return Latencies(*(round(seconds * 1e3, 3) for seconds in (*shares, ascending[-1])))
