"""One subscribed room on this node: what its feed says, and the log where the feed breaks."""

import asyncio
from collections.abc import Callable, Iterable
from itertools import filterfalse
from typing import NamedTuple, Protocol

from adapters.redis.channels import ChannelListener, Channels
from adapters.redis.keyspace import RoomKeys
from adapters.redis.lag import Lag
from adapters.redis.records import EPHEMERAL, MESSAGE, Decoder, UnreadableRecord, decode_ephemeral
from adapters.redis.replica import Replica
from adapters.redis.room_log import RoomLog, note_unreadable
from application.ports.broadcasting import BrokerListener
from application.ports.metrics import Metrics
from domain.errors import Unavailable
from domain.identifiers import RoomId
from domain.message import Message
from domain.options import Retention
from domain.position import Position
from domain.timeline import Timeline

UNREADABLE_PAUSE = 1.0  # seconds between looks for the sake of records that cannot be read
_ATTEMPTS = 20  # at bringing a look and a busy feed together


class FeedOwner(Protocol):
    """Whom a feed tells what it needs."""

    def stale(self, feed: "Feed") -> None:
        """Something may be missing: have `resync` called."""

    def grown(self, feed: "Feed", *, spare: bool = False) -> None:
        """The timeline holds more or less than before. `spare`: somebody is about to read it."""

    def rewound(self) -> None:
        """The store has lost messages it had."""


class Surroundings(NamedTuple):
    """What all feeds of a node work with."""

    channels: Channels
    log: RoomLog
    metrics: Metrics
    clock: Callable[[], float]
    lag: Lag


class Feed(ChannelListener):
    """Made for one subscription: `open` it once, `close` it once."""

    def __init__(
        self,
        room: RoomId,
        keys: RoomKeys,
        keep: Retention,
        owner: FeedOwner,
        listener: BrokerListener,
        around: Surroundings,
    ) -> None:
        self.room = room
        self.keys = keys
        self.keep = keep
        self.replica = Replica()
        self.opening = asyncio.Lock()
        self.is_open = False
        self.closed = False
        # For the owner: bytes counted, when last used, when meta was renewed.
        self.counted = 0
        self.used_at = self.renewed_at = around.clock()
        self._look: asyncio.TimerHandle | None = None
        self._look_at = 0.0
        self._acknowledged: Position | None = None
        self._extending = asyncio.Lock()
        self._settling: set[asyncio.Future[None]] = set()
        self._decode = Decoder(room).decode
        self._owner = owner
        self._listener = listener
        self._channels, self._log, self._metrics, self._clock, self._lag = around

    @property
    def timeline(self) -> Timeline | None:
        """None before the feed is open."""
        return self.replica.timeline if self.is_open else None

    @property
    def is_current(self) -> bool:
        """Whether the timeline is what Redis has, as far as we know; with what was published from
        here and acknowledged."""
        timeline, seen = self.timeline, self._acknowledged
        if timeline is None or not self.replica.live:
            return False
        return seen is None or seen.epoch != timeline.epoch or seen.seq <= timeline.top

    def acknowledged(self, position: Position) -> None:
        """A message published from here has got this position."""
        self._acknowledged = position

    # What the channel tells

    def received(self, channel: str, payload: bytes) -> None:
        kind = payload[:1]
        try:
            if kind == MESSAGE:
                record = self._decode(payload)
            else:
                if kind == EPHEMERAL:
                    self._whispered(payload)
                return
        except UnreadableRecord as error:
            self._unreadable(error)
            return
        replica, now = self.replica, self._clock()
        if replica.receive(record, now):
            self.used_at = now
            self._owner.grown(self)
            self._lag.note(now, record.message.ts)
            self._listener.deliver(record.message)
        elif not replica.live and self.is_open:
            self._owner.stale(self)

    def lost(self, channel: str) -> None:
        self.replica.missed()
        if self.is_open:
            self._metrics.count("feed_losses")
            self._owner.stale(self)

    def _whispered(self, payload: bytes) -> None:
        timeline = self.timeline
        if timeline is not None:
            self._listener.deliver(decode_ephemeral(payload, self.room, timeline.log))

    def _unreadable(self, error: UnreadableRecord) -> None:
        note_unreadable(error, self.room, self._metrics)
        if self._look is None:
            loop = asyncio.get_running_loop()
            self._look = loop.call_at(self._look_at, self._look_again)

    def _look_again(self) -> None:
        # Another one may come with every message: looking each time would help nobody.
        self._look = None
        self._look_at = asyncio.get_running_loop().time() + UNREADABLE_PAUSE
        self.replica.missed()
        if self.is_open:
            self._owner.stale(self)

    # Reading

    async def open(self) -> None:
        """Subscribe, and only then read: what is published in between is in one or the other.
        Raises Unavailable."""
        await self._channels.subscribe(self.keys.feed, self)
        for _ in range(_ATTEMPTS):
            self.replica.begin_reading()
            view = await self._log.newest(self.room, self.keep)
            now = self._clock()
            self.replica.timeline = view.timeline(now)
            for _ in self.replica.settle(now):
                pass  # the timeline has it, and nobody has seen less of it
            if self.replica.live or self.closed:
                self.is_open = not self.closed
                self._owner.grown(self)
                return
        raise Unavailable("the room is too busy to be entered now")

    def close(self) -> None:
        """Hear and hold nothing of the room any more."""
        self.closed = True
        self.is_open = False
        if self._look is not None:
            self._look.cancel()
        self._channels.unsubscribe(self.keys.feed, self)
        for waiting in filterfalse(asyncio.Future.done, self._settling):
            waiting.set_exception(Unavailable("the room was left meanwhile"))

    async def resync(self) -> None:
        """Bring the listener from the cursor to the log as it is now. Raises Unavailable."""
        for _ in range(_ATTEMPTS):
            timeline = self.timeline
            if self.replica.live:
                self._settled()
                return
            if timeline is None:
                return
            cursor = timeline.position
            self.replica.begin_reading()
            view = await self._log.after(self.room, cursor.seq, self.keep)
            if self.closed:
                return
            if view.continues(cursor):
                self._metrics.count("feed_resyncs", label="continued")
                self._deliver(self.replica.go_on(view, self._clock()))
            else:
                await self._begin_again(cursor)
        if not self.replica.live:
            raise Unavailable("the room is too busy to be read now")
        self._settled()

    def _settled(self) -> None:
        for waiting in filterfalse(asyncio.Future.done, self._settling):
            waiting.set_result(None)

    async def _begin_again(self, cursor: Position) -> None:
        """The way on is too long to be delivered, or there is none: hold the log as it is now,
        with all of it that a reader at the cursor has to be told, and let the listener read."""
        self.replica.begin_reading()
        view = await self._log.newest(self.room, self.keep)
        now = self._clock()
        anew = view.epoch != cursor.epoch and view.floor == 0
        if anew and view.begins_here:
            timeline = view.beginning()
        else:
            timeline = view.timeline(now, self.replica.timeline)
            needed = timeline.lacks(view.beginning().position if anew else cursor)
            if needed is not None:
                await self._extend(timeline, needed)
        if self.closed:
            return
        self._metrics.count("feed_resyncs", label="begun_again")
        if view.epoch == cursor.epoch and view.top < cursor.seq:
            self._owner.rewound()
        self._acknowledged = None
        if anew and timeline.top:
            # Who was here all the time has it from its first message on: another log is told,
            # and then read.
            self.replica.timeline = view.beginning()
            self._listener.interrupted(self.room)
        self.replica.timeline = timeline
        self._owner.grown(self, spare=True)
        self._listener.interrupted(self.room)
        if timeline.top < view.top:
            self._deliver(self.replica.go_on(view, now))
        else:
            self._deliver(self.replica.settle(now))

    async def settled(self) -> None:
        """Wait until a reading has ended well. Raises Unavailable when the room is left."""
        settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._settling.add(settled)
        try:
            await settled
        finally:
            self._settling.discard(settled)

    async def reach(self, seq: int) -> None:
        """See `Broker.reach`."""
        while (timeline := self.timeline) is not None:
            async with self._extending:
                await self._extend(timeline, seq)
            if self.timeline is timeline:
                self.used_at = self._clock()
                self._owner.grown(self, spare=True)
                return
        raise Unavailable(f"{self.room} was left meanwhile")

    async def _extend(self, timeline: Timeline, seq: int) -> None:
        """Add what the log has before a timeline, down to `seq`. Raises Unavailable."""
        while timeline.first - 1 > max(seq, timeline.floor):
            first = timeline.first
            view = await self._log.before(self.room, first)
            end = None
            if view is not None and view.epoch == timeline.epoch:
                end = view.lineage.end_of(timeline.term, view.top)
            if view is None or end is None or end < timeline.first - 1:
                raise Unavailable("the log has changed meanwhile")
            messages = [r.message for r in view.records if r.message.seq < timeline.first]
            if messages and messages[-1].seq == timeline.first - 1:
                timeline.prepend(messages)
                timeline.lost(view.floor)
            elif timeline.first == first:  # what should be there cannot be read
                timeline.lost(first - 1)

    def _deliver(self, messages: Iterable[Message]) -> None:
        for message in messages:
            self._listener.deliver(message)
        self._owner.grown(self)
