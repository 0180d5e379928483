"""Use case: somebody says something in a room, from a session or in a request of its own."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache

from application.hub import Hub
from application.ports.broadcasting import Broker, Published, Receipt
from application.ports.metrics import Metrics
from application.ports.presence import Presence
from application.requests import RequestRates
from application.sampling import Sampling
from application.session import Session
from domain.errors import HubbubError, RateLimited
from domain.grants import Caller, Identity
from domain.identifiers import RoomId, room_id
from domain.message import Draft
from domain.options import PublishPolicy, RoomCatalog
from domain.room import Room
from domain.throttle import TokenBucket

_MAX_BUCKETS = 100_000
_MAX_RULES = 10_000  # rooms whose rules are at hand for who is no member

Outcome = asyncio.Future[Published | HubbubError]


class PublishMessage:
    """The same rules for a session (`__call__`) and for a request (`ask`)."""

    def __init__(
        self,
        hub: Hub,
        broker: Broker,
        presence: Presence,
        catalog: RoomCatalog,
        metrics: Metrics,
        rates: RequestRates,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hub = hub
        self._broker = broker
        self._presence = presence
        self._catalog = catalog
        self._metrics = metrics
        self._rates = rates
        self._now = now
        self._sampling = Sampling()
        # Names are checked and matched with the catalog once, not for each message.
        self._rules = lru_cache(_MAX_RULES)(self._rules_of)
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
        admitted: bool = False,
    ) -> None:
        """Synchronous: drafts of one session are numbered in the order of the calls.

        `receipt` is called once, now or later. `admitted`: it was counted when it came in. Raises
        (and then never calls it) BadName, NotGranted, NotJoined, RateLimited.
        """
        if not admitted:
            session.admit_publish()
        identity = session.identity
        membership = session.memberships.get(RoomId(name))
        if membership is None:
            room: Room = self._rules(name)
            room.admit(identity, member=False)
        else:
            room = membership.room
            if membership.speaks_as is not identity:  # what it may do goes with the identity
                room.admit(identity, member=True)
                membership.speaks_as = identity
        scope = "" if key is None else identity.principal
        skip = None if echo else session.id
        draft = Draft(room.id, identity.user, data, key, scope, ephemeral, skip)
        self._submit(room, draft, receipt)

    async def ask(
        self,
        caller: Caller,
        name: str,
        data: bytes,
        *,
        sender: str | None = None,
        key: str | None = None,
        ephemeral: bool = False,
    ) -> Outcome:
        """Hand a message over; what came of it is the result of the future, which may be left
        alone. Drafts of calls awaited one after the other are numbered in that order.

        A user is a member for as long as one of their sessions is, anywhere. Raises BadName,
        NotGranted, NotJoined, Forbidden, RateLimited, Unavailable.
        """
        self._rates.admit_publish(caller)
        room = self._rules(name)
        user = caller.speaker(sender)
        room.admit(caller, member=await self._is_member(caller, room))
        outcome: Outcome = asyncio.get_running_loop().create_future()

        def settle(told: Published | HubbubError) -> None:
            if not outcome.done():  # nobody may be waiting any more
                outcome.set_result(told)

        scope = "" if key is None else caller.principal
        self._submit(room, Draft(room.id, user, data, key, scope, ephemeral), settle)
        return outcome

    def _submit(self, room: Room, draft: Draft, receipt: Receipt) -> None:
        if room.options.rate is not None:
            self._throttle(room.id, room.options.rate)
        kind = "ephemeral" if draft.ephemeral else "numbered"
        self._metrics.count("messages_published", 1, kind)
        now = self._now()
        if self._sampling.due(now):
            receipt = self._timed(receipt, now)
        self._broker.submit(draft, room.options.keep, receipt)

    def _timed(self, receipt: Receipt, began: float) -> Receipt:
        def settle(told: Published | HubbubError) -> None:
            self._metrics.observe("publish_seconds", self._now() - began)
            receipt(told)

        return settle

    def _rules_of(self, name: str) -> Room:
        room = room_id(name)
        return Room(room, self._catalog.of(room))

    async def _is_member(self, caller: Caller, room: Room) -> bool:
        """Asked of the presence only where it matters, and nobody here knows."""
        if room.options.publish is not PublishPolicy.MEMBERS or not isinstance(caller, Identity):
            return False
        if any(room.id in session.memberships for session in self._hub.sessions_of(caller.user)):
            return True
        members = (await self._presence.snapshot(room.id)).members if room.keeps_presence else None
        return any(member.user == caller.user for member in members or ())

    def _throttle(self, room: RoomId, rate: float) -> None:
        bucket = self._buckets.get(room)
        if bucket is None:
            bucket = self._buckets[room] = TokenBucket(rate, max(1.0, 2 * rate))
            if len(self._buckets) > _MAX_BUCKETS:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(room)
        wait = bucket.take(self._now())
        if wait:
            self._metrics.count("rate_limited", label="room")
            raise RateLimited(f"{room} takes {rate:g} messages/s", retry_after=wait)
