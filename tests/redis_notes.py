"""What the parts of the Redis adapter tell, written down for tests."""

import asyncio
from collections.abc import Callable
from typing import Any

from adapters.redis.channels import HEARTBEAT, ChannelListener, Channels
from adapters.redis.store import Store
from tests.peer import DEADLINE, until


class Outcomes:
    """What became of numbered calls."""

    def __init__(self) -> None:
        self.of: dict[int, list[Any]] = {}
        self._told = asyncio.Event()

    def done(self, number: int) -> Callable[[Any], None]:
        outcomes = self.of.setdefault(number, [])

        def told(outcome: Any) -> None:
            outcomes.append(outcome)
            self._told.set()

        return told

    async def all(self) -> list[Any]:
        """Wait until each has its outcome, which must be the only one."""
        async with asyncio.timeout(DEADLINE):
            while not all(self.of.values()):
                self._told.clear()
                await self._told.wait()
        assert {len(outcomes) for outcomes in self.of.values()} == {1}
        return [outcomes[0] for _, outcomes in sorted(self.of.items())]

    async def one(self) -> Any:
        (outcome,) = await self.all()
        return outcome


class Notes(ChannelListener):
    """What a listener was told: payloads, and None for each time it may have missed some."""

    def __init__(self) -> None:
        self.all: list[tuple[str, bytes | None]] = []
        self._noted = asyncio.Event()

    def received(self, channel: str, payload: bytes) -> None:
        self._note(channel, payload)

    def lost(self, channel: str) -> None:
        self._note(channel, None)

    def _note(self, channel: str, what: bytes | None) -> None:
        self.all.append((channel, what))
        self._noted.set()

    async def number(self, count: int) -> list[bytes | None]:
        """Wait until there are as many, and return what they say."""
        await self.until(lambda: len(self.all) >= count)
        return [what for _, what in self.all]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not condition():
                self._noted.clear()
                await self._noted.wait()


class RedisNode:
    """A store and its channels, as one node has them."""

    def __init__(self, url: str, heartbeat: float = HEARTBEAT) -> None:
        self.store = Store(url)
        self.channels = Channels(self.store, heartbeat)

    async def publish(self, payload: bytes | str, channel: str) -> int:
        """The number of those who hear it."""
        command = (self.store.publish_command, channel, payload)
        return int(await self.store.command(channel, *command))

    async def healthy(self) -> None:
        await until(lambda: self.store.healthy and self.channels.healthy)
