"""Use case: a session says something in a room."""

import time
from collections import OrderedDict
from collections.abc import Callable

from application.hub import Hub
from application.ports.broadcasting import Broker, Receipt
from application.ports.metrics import Metrics
from application.session import Session
from domain.identifiers import RoomId, room_id
from domain.message import Draft
from domain.options import RoomCatalog
from domain.room import Room

_MAX_QUIET_ROOMS = 10_000


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
        # Rules of rooms without members here, so that a room's own rate also holds for those.
        self._quiet: OrderedDict[RoomId, Room] = OrderedDict()

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
        room.throttle(self._now())
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
        if live is not None:
            return live.room
        rules = self._quiet.get(room)
        if rules is None:
            rules = self._quiet[room] = Room(room, self._catalog.of(room))
            if len(self._quiet) > _MAX_QUIET_ROOMS:
                self._quiet.popitem(last=False)
        return rules
