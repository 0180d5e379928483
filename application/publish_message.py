"""Use case: a session says something in a room."""

import time
from collections import OrderedDict
from collections.abc import Callable

from application.hub import Hub
from application.ports.broadcasting import Broker, Receipt
from application.ports.metrics import Metrics
from application.session import Session
from domain.errors import RateLimited
from domain.identifiers import RoomId, room_id
from domain.message import Draft
from domain.options import RoomCatalog
from domain.room import Room
from domain.throttle import TokenBucket

_MAX_BUCKETS = 100_000


class PublishMessage:
    """Synchronous: drafts of one session are numbered in the order of the calls."""

    def __init__(
        self,
        hub: Hub,
        broker: Broker,
        catalog: RoomCatalog,
        metrics: Metrics,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hub = hub
        self._broker = broker
        self._catalog = catalog
        self._metrics = metrics
        self._now = now
        # Of rooms with a rate of their own, the least recently used first. Kept beside the live
        # rooms: leaving and coming back must not fill a bucket.
        self._buckets: OrderedDict[RoomId, TokenBucket] = OrderedDict()

    def __call__(
        self,
        session: Session,
        name: str,
        data: bytes,
        receipt: Receipt,
        *,
        key: str | None = None,
        ephemeral: bool = False,
        echo: bool = True,
    ) -> None:
        """`receipt` is called once, now or later. Raises (and then never calls it) BadName,
        NotGranted, NotJoined, RateLimited."""
        session.admit_publish()
        membership = session.memberships.get(RoomId(name))
        room: Room = self._rules(room_id(name)) if membership is None else membership.room
        room.admit(session.identity, member=membership is not None)
        if room.options.rate is not None:
            self._throttle(room.id, room.options.rate)
        draft = Draft(
            room.id,
            session.identity.user,
            data,
            key,
            session.principal if key is not None else "",
            ephemeral,
            None if echo else session.id,
        )
        self._metrics.count("messages_published")
        self._broker.submit(draft, room.options.keep, receipt)

    def _rules(self, room: RoomId) -> Room:
        live = self._hub.find(room)
        return Room(room, self._catalog.of(room)) if live is None else live.room

    def _throttle(self, room: RoomId, rate: float) -> None:
        bucket = self._buckets.get(room)
        if bucket is None:
            bucket = self._buckets[room] = TokenBucket(rate, max(1.0, 2 * rate))
            if len(self._buckets) > _MAX_BUCKETS:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(room)
        wait = bucket.take(self._now())
        if wait:
            raise RateLimited(f"{room} takes {rate:g} messages/s", retry_after=wait)
