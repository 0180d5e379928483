"""All subscribed rooms of this node: opening them, bringing them back, looking after them."""

import asyncio
import logging
import random
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from adapters.redis.feed import Feed, FeedOwner, Surroundings
from adapters.redis.keyspace import Keyspace
from adapters.redis.store import Store
from adapters.redis.terms import Terms
from application.ports.broadcasting import BrokerListener, Held
from domain.errors import HubbubError, OutcomeUnknown, Unavailable
from domain.identifiers import RoomId
from domain.options import Retention
from domain.position import Position

CHECK = 10.0  # seconds between two comparisons of every room with Redis
GRACE = 0.5  # seconds for what is on its way when they are compared
CONFIRM_DEADLINE = 3.0  # seconds for finding out where a room is
RENEWAL = 86_400.0  # seconds after which a room that is only listened to is marked as in use
AT_ONCE = 64  # rooms that are read at the same time
_SPREAD = 0.1  # seconds over which the reading of AT_ONCE rooms is spread,
_LONGEST_SPREAD = 1.0  # and that of very many
_MOMENT = 0.02  # seconds; what was published is heard within one, as a rule
_LOG_INTERVAL = 1.0  # seconds
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0  # seconds after a reading failed

logger = logging.getLogger("hubbub.redis")


class _Look(NamedTuple):
    """Where a room stood here when Redis was asked, and where it stood there."""

    feed: Feed
    here: Position
    there: Position | None


class Feeds(FeedOwner):
    """Finds, opens and closes feeds; `run` keeps them true. `max_bytes` is for all timelines."""

    def __init__(
        self,
        store: Store,
        keyspace: Keyspace,
        terms: Terms,
        around: Surroundings,
        max_bytes: int,
    ) -> None:
        self._store = store
        self._keyspace = keyspace
        self._terms = terms
        self._around = around
        self._max_bytes = max_bytes
        self._bytes = 0
        self._feeds: dict[RoomId, Feed] = {}
        self.find = self._feeds.get
        self.listener: BrokerListener | None = None
        self._next: Feed | None = None  # where the next comparison of all begins
        self._stale: dict[Feed, None] = {}
        self._reading: set[Feed] = set()
        self._wanted = asyncio.Event()
        self._logged_at = -_LOG_INTERVAL

    async def open(self, room: RoomId, keep: Retention) -> None:
        """Have a feed. Raises Unavailable."""
        while True:
            feed = self._feeds.get(room)
            if feed is None:
                feed = self._feeds[room] = self._new(room, keep)
            async with feed.opening:
                if feed.is_open:
                    return
                if feed.closed:  # whoever began has given up
                    continue
                try:
                    await feed.open()
                except BaseException:
                    self._drop(feed)
                    raise
                if feed.closed:
                    raise Unavailable(f"{room} was left meanwhile")
                return

    def _new(self, room: RoomId, keep: Retention) -> Feed:
        if self.listener is None:
            raise RuntimeError("there is nobody to deliver to")
        return Feed(room, self._keyspace.room(room), keep, self, self.listener, self._around)

    def close(self, room: RoomId) -> None:
        """Have none any more."""
        feed = self._feeds.get(room)
        if feed is not None:
            self._drop(feed)

    def _drop(self, feed: Feed) -> None:
        if self._feeds.get(feed.room) is feed:  # and not another one since
            del self._feeds[feed.room]
            self._stale.pop(feed, None)
            self._bytes -= feed.counted
            feed.close()

    @property
    def held(self) -> Held:
        """What all of them hold."""
        return Held(len(self._feeds), self._bytes)

    def __iter__(self) -> Iterator[Feed]:
        """Those that are open."""
        return iter([feed for feed in self._feeds.values() if feed.is_open])

    # What feeds tell

    def stale(self, feed: Feed) -> None:
        # One that is being read is read again, as long as it is not live at the end.
        if feed not in self._reading:
            self._stale[feed] = None
            self._wanted.set()

    def grown(self, feed: Feed, *, spare: bool = False) -> None:
        timeline = feed.timeline
        if timeline is None:
            return
        self._bytes += timeline.bytes - feed.counted
        feed.counted = timeline.bytes
        if self._bytes > self._max_bytes:
            self._shed(feed if spare else None)

    def rewound(self) -> None:
        self._terms.doubt()

    def _shed(self, spared: Feed | None) -> None:
        """Hold no messages of the rooms unused for the longest time; Redis still has them. A
        tenth more than needed, so as not to be back with the next message."""
        for feed in sorted(self, key=lambda feed: feed.used_at):
            if self._bytes <= self._max_bytes * 0.9:
                return
            timeline = feed.timeline
            if timeline is not None and feed is not spared:
                timeline.shed()
                self._bytes -= feed.counted
                feed.counted = 0

    # What nobody tells

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._bring_back())
            tasks.create_task(self._look_after())

    async def _bring_back(self) -> None:
        places = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._wanted.clear()
                for feed in self._stale:
                    self._reading.add(feed)
                    tasks.create_task(self._read(feed, places, len(self._stale)))
                self._stale.clear()
                await self._wanted.wait()

    async def _read(self, feed: Feed, places: asyncio.Semaphore, crowd: int) -> None:
        pause = _FIRST_PAUSE
        # Every node is in the same situation: not all of them at the same moment.
        spread = min(_SPREAD * crowd / AT_ONCE, _LONGEST_SPREAD)
        await asyncio.sleep(random.uniform(0.0, spread))
        while feed.is_open and not feed.replica.live:
            try:
                async with places:
                    await feed.resync()
            except HubbubError as failure:
                self._complain(feed, failure)
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(2 * pause, _LONGEST_PAUSE)
        self._reading.discard(feed)

    def _complain(self, feed: Feed, failure: HubbubError) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._logged_at > _LOG_INTERVAL:  # every room has the same to say
            self._logged_at = now
            waiting = len(self._reading)
            logger.warning(
                "room %s cannot be read now (%d wait): %s", feed.room, waiting, failure.message
            )

    async def _look_after(self) -> None:
        while True:
            await asyncio.sleep(CHECK)
            self.expire()
            await self.check()

    def expire(self) -> None:
        """Let go of logs whose lifetime is over."""
        now = self._around.clock()
        for feed in self:
            timeline = feed.timeline
            if timeline is not None and timeline.expire(now):
                self.grown(feed)

    async def check(self) -> None:
        """Compare every room with Redis: the last message of a room may be lost on its way, or the
        room itself in Redis, and no other message come that would show it."""
        looks: list[_Look] = []
        feeds = list(self)
        # Where a round ended early, the next one goes on: every room has its turn.
        first = feeds.index(self._next) if self._next in feeds else 0
        feeds, self._next = feeds[first:] + feeds[:first], None
        for start in range(0, len(feeds), AT_ONCE):
            some = [feed for feed in feeds[start : start + AT_ONCE] if feed.is_open]
            compared = await self._compare(some)
            looks += compared
            if some and not compared:  # Redis does not answer
                self._next = next(iter(feeds[start + AT_ONCE :]), None)
                break
        if not any(look.here != look.there for look in looks):
            return
        await asyncio.sleep(GRACE)
        for look in looks:
            if look.here != look.there and _differs(look):
                look.feed.replica.missed()
                self.stale(look.feed)

    async def confirm(self, feed: Feed) -> None:
        """See `Broker.confirm`. As `check`, for one room, and with an answer. A room that is as it
        should be goes on undisturbed: whoever likes may cause this."""
        timeline = feed.timeline
        if timeline is None:
            raise Unavailable(f"{feed.room} was left meanwhile")
        there = await self._locate(feed, timeline.top)
        end = time.monotonic() + GRACE
        # What was published is on its way as a rule; nothing announces that it is there.
        while not _has(feed, there) and time.monotonic() < end:  # noqa: ASYNC110  (see above)
            await asyncio.sleep(_MOMENT)
        try:
            async with asyncio.timeout(CONFIRM_DEADLINE):
                while not _has(feed, there):
                    feed.replica.missed()
                    self.stale(feed)
                    await feed.settled()
                    if not _has(feed, there):
                        # What was said of it may never come about: Redis lost the room, or the
                        # end of its log, before or since.
                        await asyncio.sleep(_FIRST_PAUSE)
                        there = await self._locate(feed, timeline.top)
        except TimeoutError:
            raise Unavailable("the store does not tell where the room is") from None

    async def _locate(self, feed: Feed, seq: int) -> Position | None:
        """As `_ask`, but raises Unavailable only: a question changes nothing."""
        try:
            return await self._ask(feed, seq)
        except OutcomeUnknown as failure:
            raise Unavailable(failure.message) from failure

    async def _compare(self, feeds: Sequence[Feed]) -> list[_Look]:
        asked = [(feed, feed.timeline.position) for feed in feeds if feed.timeline is not None]
        answers = await asyncio.gather(
            *(self._ask(feed, here.seq) for feed, here in asked), return_exceptions=True
        )
        looks = []
        for (feed, here), answer in zip(asked, answers, strict=True):
            if isinstance(answer, HubbubError):
                continue  # the next time
            if isinstance(answer, BaseException):
                raise answer
            looks.append(_Look(feed, here, answer))
        return looks

    async def _ask(self, feed: Feed, seq: int) -> Position | None:
        now = self._around.clock()
        if now - feed.renewed_at > RENEWAL:
            view = await self._around.log.after(feed.room, seq, feed.keep)
            feed.renewed_at = now
            return Position(view.epoch, view.top, view.lineage.current[0])
        meta = feed.keys.meta
        found: list[Any] = await self._store.command(meta, "HMGET", meta, "epoch", "seq", "term")
        try:
            epoch, seq, term = (value.decode() for value in found)
            return Position(epoch, int(seq), term)
        except (AttributeError, ValueError):
            return None  # nothing, or nothing of ours: not what is held here


def _has(feed: Feed, there: Position | None) -> bool:
    """Whether what is held of a room is as new as what Redis said of it."""
    timeline = feed.timeline
    if timeline is None or there is None or not feed.replica.live:
        return False
    same = there.term == timeline.term or timeline.lineage.past(there.term)
    return there.epoch == timeline.epoch and same and timeline.top >= there.seq


def _differs(look: _Look) -> bool:
    """Whether a room is still not where Redis said it was."""
    timeline = look.feed.timeline
    if timeline is None or not look.feed.replica.live:
        return False
    now, there = timeline.position, look.there
    if now == look.here or there is None:
        return True
    return now.epoch == there.epoch and now.seq < there.seq
