"""Beside the connections: this node tells what it does, in a room like any other."""

import asyncio
import json
import time
from collections.abc import Callable, Mapping

from application.hub import Hub
from application.ports.metrics import Metrics
from application.publish_message import PublishMessage
from domain.errors import HubbubError
from domain.grants import Action, Backend, Grants
from domain.identifiers import RoomId
from domain.options import PresenceMode, PublishPolicy, RoomOptions

ROOM = RoomId("hubbub:stats")
OPTIONS = RoomOptions(
    history_size=120,  # two minutes of one node for whoever comes
    presence=PresenceMode.OFF,
    publish=PublishPolicy.BACKEND,
    conflate=True,
)
INTERVAL = 1.0  # seconds
_READ = ("sessions", "rooms", "messages_published", "deliveries")


class ReportFigures:
    """Once a second, and only while somebody on this node is in the room.

    A message holds the name of the `node`; `sessions` and `rooms` there are; `published` messages
    and `delivered` ones, a second; `cpu`, how much of one processor the process used; and `lag`,
    by how many milliseconds the event loop was late.
    """

    def __init__(
        self,
        hub: Hub,
        publish: PublishMessage,
        metrics: Metrics,
        node: str,
        used: Callable[[], float] = time.process_time,
    ) -> None:
        """`used` is the seconds of a processor that the process has had."""
        self._hub = hub
        self._publish = publish
        self._metrics = metrics
        self._node = node
        self._used = used
        self._backend = Backend("hubbub", Grants({ROOM: [Action.PUBLISH]}))

    async def run(self) -> None:
        """Run until cancelled."""
        loop = asyncio.get_running_loop()
        before, used, began = self._metrics.read(*_READ), self._used(), loop.time()
        while True:
            await asyncio.sleep(INTERVAL)
            after, now_used, now = self._metrics.read(*_READ), self._used(), loop.time()
            elapsed = now - began
            figures = {
                "node": self._node,
                "sessions": int(after.get("sessions", 0)),
                "rooms": int(after.get("rooms", 0)),
                "published": _rate(before, after, "messages_published", elapsed),
                "delivered": _rate(before, after, "deliveries", elapsed),
                "cpu": round((now_used - used) / elapsed, 3),
                "lag": round(max(0.0, elapsed - INTERVAL) * 1000, 1),
            }
            before, used, began = after, now_used, now
            live = self._hub.find(ROOM)
            if live is not None and live.memberships:
                await self._tell(figures)

    async def _tell(self, figures: dict[str, object]) -> None:
        data = json.dumps(figures, separators=(",", ":")).encode()
        try:
            await self._publish.ask(self._backend, ROOM, data)
        except HubbubError:
            return  # the store is away, which others tell; the next second has figures again


def _rate(
    before: Mapping[str, float], after: Mapping[str, float], name: str, elapsed: float
) -> float:
    return round((after.get(name, 0.0) - before.get(name, 0.0)) / elapsed, 1)
