"""The life of this process: what runs beside the connections."""

import asyncio

from application.carry_out import CarryOut
from application.hub import Hub
from application.ports.broadcasting import Broker
from application.ports.control import Control
from application.ports.presence import Presence


class Node:
    """Owns every background task. A bug in one of them ends the node instead of going unseen."""

    def __init__(
        self, broker: Broker, presence: Presence, control: Control, hub: Hub, orders: CarryOut
    ) -> None:
        self._broker = broker
        self._presence = presence
        self._control = control
        self._hub = hub
        self.running = False
        self.draining = False
        self.failed = False
        broker.attach(hub)
        presence.attach(hub)
        control.attach(orders)

    async def run(self) -> None:
        """Run until cancelled."""
        self.running = True
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._broker.run(), name="broker")
                tasks.create_task(self._presence.run(), name="presence")
                tasks.create_task(self._control.run(), name="control")
                tasks.create_task(self._hub.run(), name="hub")
        except Exception:
            self.failed = True
            raise
        finally:
            self.running = False
