"""Broker over Redis: one numbering and one log per room for all nodes.

- A script numbers a draft, appends it to the room's log (a stream) and publishes it, in one step.
- Every node hears a room's messages on the room's channel only, its own ones too, and holds the
  newest of them; `replica.py` decides what continues what.
- Whatever may have been missed is read from the log: after every subscription that was not asked
  for, after every hole, and whenever a look every ten seconds shows another end.
"""

import asyncio
import time
from collections.abc import Callable

from adapters.redis.channels import Channels
from adapters.redis.feed import Surroundings
from adapters.redis.feeds import Feeds
from adapters.redis.keyspace import Keyspace
from adapters.redis.lag import Lag
from adapters.redis.publisher import Publisher
from adapters.redis.room_log import RoomLog
from adapters.redis.store import Store
from adapters.redis.terms import Terms
from application.ports.broadcasting import Broker, BrokerListener, Held, Receipt
from application.ports.metrics import Metrics
from domain.errors import Unavailable
from domain.identifiers import RoomId
from domain.message import Draft
from domain.options import Retention
from domain.timeline import Page, PageRequest, Timeline

MAX_BYTES = 256 * 1024 * 1024  # of all rooms' messages held by this node


class RedisBroker(Broker):
    """See the port. `store` and `channels` are run by whoever made them.

    Time to live of what is held here is counted on `clock` (monotonic), `ts` taken from `wall`.
    """

    def __init__(
        self,
        store: Store,
        channels: Channels,
        metrics: Metrics,
        keyspace: Keyspace | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        """`max_bytes`: held of all rooms' messages together; more is read from Redis again."""
        names = keyspace or Keyspace()
        self._store = store
        self._channels = channels
        self._clock = clock
        self._terms = Terms(store, names.term)
        self._log = RoomLog(store, names, self._terms, metrics)
        around = Surroundings(channels, self._log, metrics, clock, Lag(metrics, wall))
        self._feeds = Feeds(store, names, self._terms, around, max_bytes)
        self._publisher = Publisher(store, names, self._feeds, self._terms, metrics, wall)

    @property
    def healthy(self) -> bool:
        return self._store.healthy and self._channels.healthy and self._terms.known

    @property
    def notices_losses(self) -> bool:
        return not self._terms.made_up

    @property
    def held(self) -> Held:
        return self._feeds.held

    def attach(self, listener: BrokerListener) -> None:
        self._feeds.listener = listener

    def submit(self, draft: Draft, keep: Retention, receipt: Receipt) -> None:
        self._publisher.submit(draft, keep, receipt)

    async def subscribe(self, room: RoomId, keep: Retention) -> None:
        await self._feeds.open(room, keep)

    def unsubscribe(self, room: RoomId) -> None:
        self._feeds.close(room)

    def timeline(self, room: RoomId) -> Timeline | None:
        feed = self._feeds.find(room)
        timeline = None if feed is None else feed.timeline
        if timeline is not None:
            timeline.expire(self._clock())
        return timeline

    async def reach(self, room: RoomId, seq: int) -> None:
        feed = self._feeds.find(room)
        if feed is None:
            raise Unavailable(f"{room} is not subscribed")
        await feed.reach(seq)

    async def confirm(self, room: RoomId) -> None:
        feed = self._feeds.find(room)
        if feed is None:
            raise Unavailable(f"{room} is not subscribed")
        await self._feeds.confirm(feed)

    async def page(self, room: RoomId, request: PageRequest, keep: Retention) -> Page:
        feed = self._feeds.find(room)
        timeline = self.timeline(room)
        if feed is not None and feed.is_current and timeline and timeline.covers(request):
            return timeline.page(request)
        return await self._log.page(room, request)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._terms.run())
            tasks.create_task(self._feeds.run())

    async def check(self) -> None:
        """Compare with Redis what is held here, as `run` does every few seconds."""
        self._feeds.expire()
        await self._feeds.check()
