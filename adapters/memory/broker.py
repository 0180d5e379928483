"""Broker in one process: numbering, log and delivery as plain function calls.

`submit` is one synchronous step (key check, number, append, deliver), and so is reading a
timeline and registering a member: no race is possible where nothing waits.
"""

import asyncio
import itertools
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b
from typing import NamedTuple

from application.ports.broadcasting import Broker, BrokerListener, Held, Published, Receipt
from domain.errors import KeyConflict
from domain.identifiers import RoomId
from domain.message import Draft, Message
from domain.options import Retention
from domain.timeline import Page, PageRequest, Timeline

KEY_TTL = 300.0  # seconds a publish key is remembered
MAX_KEYS = 250_000  # of all rooms; each is under a kilobyte
IDLE_TTL = 24 * 3600.0  # seconds a room nobody uses keeps its epoch and count
MAX_IDLE = 100_000  # such rooms kept at most
MAX_BYTES = 256 * 1024 * 1024  # of all rooms' messages
SWEEP_INTERVAL = 5.0
TERM = "0"  # one process numbers for all of its life: there is no other reign


class _Used(NamedTuple):
    """What became of a publish key."""

    digest: bytes
    published: Published
    forgotten_at: float


class _Log:
    __slots__ = ("counted", "idle_since", "subscribed", "timeline")

    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline
        self.counted = 0  # bytes of it in the sum over all rooms
        self.subscribed = False
        self.idle_since = 0.0


class MemoryBroker(Broker):
    """See the port. Time to live is counted on `clock` (monotonic), `ts` taken from `wall`."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        max_idle: int = MAX_IDLE,
        max_bytes: int = MAX_BYTES,
        max_keys: int = MAX_KEYS,
    ) -> None:
        """`max_bytes`: of all rooms' messages together; over it the rooms that were published to
        the longest ago lose theirs, and who asks for them is told of a gap. `max_keys`: of all
        rooms together; over it the oldest are forgotten before their time."""
        self._clock = clock
        self._wall = wall
        self._max_idle = max_idle
        self._max_bytes = max_bytes
        self._max_keys = max_keys
        # By the epoch of the log, principal and key; in the order of use, which with one lifetime
        # for all is the order of forgetting.
        self._keys: OrderedDict[tuple[str, str, str], _Used] = OrderedDict()
        self._bytes = 0
        # Logs with messages, the one published to the longest ago first.
        self._by_age: OrderedDict[RoomId, _Log] = OrderedDict()
        self._rooms: dict[RoomId, _Log] = {}
        # Rooms without a subscription, the longest unused first.
        self._idle: OrderedDict[RoomId, _Log] = OrderedDict()
        self._listener: BrokerListener | None = None
        # What is new is named by numbers behind what no other broker has: randomness for each would
        # be a system call.
        self._prefix = secrets.token_urlsafe(9)
        self._numbers = itertools.count(1)

    def attach(self, listener: BrokerListener) -> None:
        self._listener = listener

    def submit(self, draft: Draft, keep: Retention, receipt: Receipt) -> None:
        if draft.ephemeral:
            self._deliver_ephemeral(draft)
            receipt(Published(None, ""))
            return
        log = self._log(draft.room)
        timeline = log.timeline
        now = self._clock()
        if draft.key is not None:
            used = self._used(timeline.epoch, draft, now)
            if used is not None:
                receipt(used)
                return
        timeline.expire(now)
        message = timeline.number(draft, self._fresh_id(), self._wall())
        timeline.append(message, keep, now)
        self._by_age[draft.room] = log
        self._by_age.move_to_end(draft.room)
        self._account(log)
        published = Published(timeline.position, message.id)
        if draft.key is not None:
            record = _Used(_digest(draft.data), published, now + KEY_TTL)
            self._keys[(timeline.epoch, draft.principal, draft.key)] = record
            if len(self._keys) > self._max_keys:
                self._keys.popitem(last=False)
        self._deliver(log, message)
        receipt(published)

    async def subscribe(self, room: RoomId, keep: Retention) -> None:
        log = self._rooms.get(room) or self._begin(room)
        log.subscribed = True
        self._idle.pop(room, None)

    def unsubscribe(self, room: RoomId) -> None:
        log = self._rooms.get(room)
        if log is not None and log.subscribed:
            log.subscribed = False
            self._touch(room, log)

    def timeline(self, room: RoomId) -> Timeline | None:
        log = self._rooms.get(room)
        if log is None or not log.subscribed:
            return None
        self._expire(room, log, self._clock())
        return log.timeline

    async def reach(self, room: RoomId, seq: int) -> None:
        """The timeline is the log: what it lacks is nowhere."""

    async def confirm(self, room: RoomId) -> None:
        """There is nobody who could be ahead."""

    async def page(self, room: RoomId, request: PageRequest, keep: Retention) -> Page:
        return self._current(room).page(request)

    @property
    def healthy(self) -> bool:
        return True

    @property
    def notices_losses(self) -> bool:
        return True

    @property
    def held(self) -> Held:
        return Held(len(self._rooms), self._bytes)

    async def run(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_INTERVAL)
            self.sweep()

    def sweep(self) -> None:
        """Forget what is past its time: messages, keys, and rooms long unused."""
        now = self._clock()
        for room, log in self._rooms.items():
            self._expire(room, log, now)
        self._forget_keys(now)
        while self._idle:
            room, log = next(iter(self._idle.items()))
            if log.idle_since + IDLE_TTL > now:
                return
            self._drop(room)

    def forget(self, room: RoomId) -> None:
        """Lose a room's log, as a store does that comes back empty."""
        log = self._log(room)
        log.timeline = self._new_timeline()
        self._by_age.pop(room, None)
        self._account(log)
        if log.subscribed and self._listener is not None:
            self._listener.interrupted(room)

    def _log(self, room: RoomId) -> _Log:
        log = self._rooms.get(room) or self._begin(room)
        if not log.subscribed:
            self._touch(room, log)
        return log

    def _begin(self, room: RoomId) -> _Log:
        log = self._rooms[room] = _Log(self._new_timeline())
        return log

    def _touch(self, room: RoomId, log: _Log) -> None:
        log.idle_since = self._clock()
        self._idle[room] = log
        self._idle.move_to_end(room)
        if len(self._idle) > self._max_idle:
            self._drop(next(iter(self._idle)))

    def _drop(self, room: RoomId) -> None:
        del self._idle[room]
        log = self._rooms.pop(room)
        log.timeline.clear()
        self._by_age.pop(room, None)
        self._account(log)

    def _expire(self, room: RoomId, log: _Log, now: float) -> None:
        if log.timeline.expire(now):
            self._by_age.pop(room, None)
            self._account(log)

    def _account(self, log: _Log) -> None:
        """Note how much a log holds now, and stay within the bytes for all of them."""
        self._bytes += log.timeline.bytes - log.counted
        log.counted = log.timeline.bytes
        while self._bytes > self._max_bytes and self._by_age:
            _, oldest = self._by_age.popitem(last=False)
            oldest.timeline.clear()
            self._bytes -= oldest.counted
            oldest.counted = 0

    def _current(self, room: RoomId) -> Timeline:
        log = self._rooms.get(room)
        if log is None:
            return self._new_timeline()  # reading makes no room, or reading would push out others
        if not log.subscribed:
            self._touch(room, log)
        self._expire(room, log, self._clock())
        return log.timeline

    def _deliver(self, log: _Log, message: Message) -> None:
        if log.subscribed and self._listener is not None:
            self._listener.deliver(message)

    def _deliver_ephemeral(self, draft: Draft) -> None:
        # To a room that nobody listens to it goes nowhere: it must not make one either, or a
        # flood of them would push out rooms that hold something.
        room = draft.room
        log = self._rooms.get(room)
        if log is None or not log.subscribed:
            return
        name, ts = log.timeline.log, self._wall()
        self._deliver(
            log, Message(room, 0, "", draft.sender, draft.data, ts, name, False, draft.skip)
        )

    def _fresh_id(self) -> str:
        return f"{self._prefix}{next(self._numbers):x}"

    def _new_timeline(self) -> Timeline:
        return Timeline(self._fresh_id(), TERM)

    def _used(self, epoch: str, draft: Draft, now: float) -> Published | KeyConflict | None:
        self._forget_keys(now)
        used = self._keys.get((epoch, draft.principal, draft.key or ""))
        if used is None:
            return None
        if used.digest != _digest(draft.data):
            return KeyConflict(f"key {draft.key} was used for other data")
        return used.published._replace(duplicate=True)

    def _forget_keys(self, now: float) -> None:
        while self._keys:
            key, used = next(iter(self._keys.items()))
            if used.forgotten_at > now:
                return
            del self._keys[key]


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=16).digest()
