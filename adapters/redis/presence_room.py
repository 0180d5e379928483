"""A room this node listens to: who sits in it here, and what is known of who sits elsewhere.

It knows nothing of Redis; what is to be said there is found out by comparing.
"""

import asyncio
from collections import deque
from collections.abc import Container, Iterator
from typing import NamedTuple

from adapters.redis.keyspace import RoomKeys
from adapters.redis.presence_records import Page, Record
from adapters.redis.presence_replica import Gap, Loaded, Loading, Replica
from adapters.redis.presence_scripts import presence_keys
from domain.errors import Unavailable
from domain.identifiers import RoomId, SessionId, UserId
from domain.member import PresenceChange


class Seat:
    """One user's sessions on this node."""

    __slots__ = ("calls", "clean", "held", "info", "sessions")

    def __init__(self, info: bytes = b"null", held: int | None = 0) -> None:
        self.info = info
        self.sessions: set[SessionId] = set()
        self.held = held  # sessions of it in Redis; None when that is not certain
        self.calls = 0  # on their way: while there are any, `held` is about to change
        self.clean = True  # how the session that left last ended

    @property
    def settled(self) -> bool:
        return self.calls == 0 and self.held == len(self.sessions)


class _Due(NamedTuple):
    """What the feed is expected to say; `loads` had begun by then."""

    life: bytes
    revision: int
    since: float
    loads: int


class _Waiter(NamedTuple):
    life: bytes
    revision: int
    since: float
    loads: int
    arrived: "asyncio.Future[None]"


class AttendedRoom:
    """Listens from before the first seat is taken until a while after the last one is empty.

    Knows nothing for certain until it is `live`.
    """

    def __init__(self, room: RoomId, keys: RoomKeys) -> None:
        self.id = room
        self.keys = presence_keys(keys)
        self.feed = keys.feed
        self.replica = Replica(room)
        self.seats: dict[UserId, Seat] = {}
        self.unsettled: set[UserId] = set()  # seats to speak of once more
        self.open = False  # listening
        self.opening: asyncio.Future[None] | None = None
        self.holds = 0  # who is just entering or opening it
        self.live = False  # the replica follows the feed; until then it is to be read
        self.restored: bytes | None = None  # the life that got back what an earlier one had
        self._loads = 0  # begun so far
        self._due: _Due | None = None
        self._progress = 0  # the revision when it was last looked whether the feed stands still
        self._waiting: deque[_Waiter] = deque()

    # Seats

    def sit(self, user: UserId, session: SessionId, info: bytes) -> tuple[Seat, bool]:
        """Returns the user's seat, and whether the session is new on it."""
        seat = self.seats.get(user)
        if seat is None:
            seat = self.seats[user] = Seat()
        seat.info = info
        new = session not in seat.sessions
        seat.sessions.add(session)
        return seat, new

    def rise(self, user: UserId, session: SessionId, *, clean: bool) -> Seat | None:
        """Returns the seat if the session sat on it."""
        seat = self.seats.get(user)
        if seat is None or session not in seat.sessions:
            return None
        seat.sessions.remove(session)
        seat.clean = clean
        return seat

    def tidy(self, user: UserId, seat: Seat) -> None:
        """Forget a seat that is empty here and in Redis; note one to speak of again."""
        if not seat.settled:
            if seat.calls == 0:
                self.unsettled.add(user)
        elif not seat.sessions and self.seats.get(user) is seat:
            del self.seats[user]

    def compare(self, page: Page, node: str, former: str) -> None:
        """Find the seats of this node that Redis knows otherwise.

        To be called as soon as the page arrives: what was said before it was asked for is in it,
        and what was said since has `calls`.
        """
        for entry in page.entries:
            seat = self.seats.get(entry.user)
            held = None if former in entry.seats else entry.seats.get(node, 0)
            if seat is None:
                if held == 0:
                    continue
                seat = self.seats[entry.user] = Seat(entry.info, held)
            if seat.calls == 0:
                seat.held = held
                self.tidy(entry.user, seat)

    def compare_absent(self, present: Container[UserId]) -> None:
        """Find the seats of this node that no page showed."""
        for user, seat in list(self.seats.items()):
            if user not in present and seat.calls == 0:
                seat.held = 0
                self.tidy(user, seat)

    @property
    def unused(self) -> bool:
        return not (self.seats or self.holds or self._waiting)

    @property
    def settled(self) -> bool:
        """Whether everything was said and has come back."""
        heard = self.live or not self.open
        return heard and not self.lags and all(seat.settled for seat in self.seats.values())

    # What is known

    def hear(self, record: Record) -> PresenceChange | None:
        """Follow a record of the feed. Raises Gap; the room is to be read again then."""
        if not self.live:
            return None
        change = self.replica.apply(record)
        self._arrive()
        return change

    def lose_track(self) -> None:
        """Not follow the feed until the room is read."""
        self.live = False

    def begin_loading(self, now: float) -> Loading:
        self._loads += 1
        self.live = False
        return Loading(now)

    def adopt(self, loaded: Loaded) -> list[PresenceChange]:
        """Know what was read; returns what that changes for who listens. Not `live` when what was
        heard meanwhile does not follow: the room is to be read again then."""
        self.live, self.restored = True, None
        changes: list[PresenceChange] = []
        try:
            for change in self.replica.adopt(loaded):
                changes.append(change)  # noqa: PERF402  (what came before a Gap counts)
        except Gap:
            self.live = False
        if self._due is not None and self._due.loads < self._loads:
            self._due = None
        for waiter in self._waiting:
            if waiter.loads < self._loads and not waiter.arrived.done():
                waiter.arrived.set_result(None)
        self._waiting = deque(waiter for waiter in self._waiting if not waiter.arrived.done())
        self._arrive()
        return changes

    def expect(self, life: bytes, revision: int, now: float) -> bool:
        """Note that the feed is to come this far. Returns whether it has yet to."""
        if self.has(life, revision):
            return False
        due = self._due
        if due is None or due.life != life or due.revision < revision:
            since = now if due is None else due.since
            self._due = _Due(life, revision, since, self._loads)
        return True

    def overdue(self, now: float, patience: float) -> bool:
        """Whether the feed has stood still for too long before what is expected of it."""
        due = self._due
        if due is None or self.has(due.life, due.revision):
            self._due = None
            return False
        if self._progress != self.replica.revision:
            self._progress = self.replica.revision
            self._due = due._replace(since=now)
            return False
        return self.live and now - due.since >= patience

    @property
    def lags(self) -> bool:
        """Whether something is still expected of the feed."""
        due = self._due
        return bool(self._waiting) or (due is not None and not self.has(due.life, due.revision))

    async def told(self, life: bytes, revision: int, now: float) -> None:
        """Wait until the replica has come this far. Raises Unavailable when it never does."""
        arrived = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiter(life, revision, now, self._loads, arrived))
        await arrived

    def give_up(self, before: float) -> None:
        """Disappoint who has waited since `before`."""
        while self._waiting and self._waiting[0].since <= before:
            arrived = self._waiting.popleft().arrived
            if not arrived.done():
                arrived.set_exception(Unavailable(f"who is in {self.id} cannot be read"))

    def _arrive(self) -> None:
        waiting = self._waiting
        while waiting and self.has(waiting[0].life, waiting[0].revision):
            arrived = waiting.popleft().arrived
            if not arrived.done():  # cancelled
                arrived.set_result(None)

    def has(self, life: bytes, revision: int) -> bool:
        """Whether the replica has come this far."""
        replica = self.replica
        return self.live and replica.life == life and replica.revision >= revision

    def to_restore(self) -> Iterator[tuple[UserId, int, bytes]]:
        """Everybody known, with the sessions on this node; who just left for good is not."""
        for user, member in self.replica.members.items():
            if user not in self.seats:
                yield user, 0, member.info
        for user, seat in self.seats.items():
            if seat.sessions or not seat.clean:
                yield user, len(seat.sessions), seat.info
