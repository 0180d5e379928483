"""Control in one process: an order is a function call."""

import asyncio

from application.ports.control import Control, ControlListener
from domain.orders import Order


class MemoryControl(Control):
    """See the port. There are no other nodes, and nothing is remembered over a restart."""

    def __init__(self) -> None:
        self._listener: ControlListener | None = None

    def attach(self, listener: ControlListener) -> None:
        self._listener = listener

    async def give(self, order: Order) -> None:
        if self._listener is not None:
            self._listener.ordered(order, None)

    async def run(self) -> None:
        await asyncio.Event().wait()
