"""The life of this process: what runs beside the connections."""

import asyncio
from abc import abstractmethod
from collections.abc import Sequence
from typing import Protocol

from application.carry_out import CarryOut
from application.hub import Hub
from application.ports.authentication import Authenticator
from application.ports.broadcasting import Broker
from application.ports.control import Control
from application.ports.directory import Directory
from application.ports.presence import Presence


class Running(Protocol):
    """Something with a life of its own."""

    @abstractmethod
    async def run(self) -> None:
        """Run until cancelled."""


class Node:
    """Owns every background task. A bug in one of them ends the node instead of going unseen."""

    def __init__(
        self,
        broker: Broker,
        presence: Presence,
        control: Control,
        directory: Directory,
        authenticator: Authenticator,
        hub: Hub,
        orders: CarryOut,
        beneath: Sequence[Running] = (),
        beside: Sequence[Running] = (),
    ) -> None:
        """`beneath` is what the ports rest on, like connections: it runs before and after them.
        `beside` is what uses them of its own accord."""
        self._broker = broker
        self._presence = presence
        self._control = control
        self._directory = directory
        self._authenticator = authenticator
        self._hub = hub
        self._beneath = beneath
        self.beside = beside
        self.running = False
        self.draining = False
        self.failed = False
        broker.attach(hub)
        presence.attach(hub)
        control.attach(orders)

    @property
    def ready(self) -> bool:
        """Whether clients are well off here."""
        return self.trouble is None

    @property
    def trouble(self) -> str | None:
        """Why clients are not well off here: `failed` for good, `starting`, `draining`, `store`
        when drafts do not get through or messages do not arrive, or `keys` when tokens cannot be
        checked."""
        if self.failed:
            return "failed"
        if self.draining:
            return "draining"
        if not self.running:
            return "starting"
        if not self._broker.healthy:
            return "store"
        return None if self._authenticator.healthy else "keys"

    @property
    def notices_losses(self) -> bool:
        """See `Broker.notices_losses`."""
        return self._broker.notices_losses

    async def run(self) -> None:
        """Run until cancelled."""
        self.running = True
        try:
            async with asyncio.TaskGroup() as foundations:
                for part in self._beneath:
                    foundations.create_task(part.run(), name=type(part).__name__)
                await self._run_ports()
        except Exception:
            self.failed = True
            raise
        finally:
            self.running = False

    async def _run_ports(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._broker.run(), name="broker")
            tasks.create_task(self._presence.run(), name="presence")
            tasks.create_task(self._control.run(), name="control")
            tasks.create_task(self._directory.run(), name="directory")
            tasks.create_task(self._authenticator.run(), name="authenticator")
            tasks.create_task(self._hub.run(), name="hub")
            for part in self.beside:
                tasks.create_task(part.run(), name=type(part).__name__)
