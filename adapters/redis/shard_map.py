"""The servers there are now, and which of them owns a slot: found, kept and followed."""

import asyncio
import logging
import time
from collections.abc import Callable

from adapters.redis.addresses import Address, Target, Topology
from adapters.redis.cluster import ClusterNodes
from adapters.redis.link import LinkLost, ReplyError
from adapters.redis.sentinel import Sentinels
from adapters.redis.shard import Shard, pauses
from adapters.redis.topology import Discovery, Owned, SingleServer

_FORGOTTEN = 30.0  # seconds a server of a cluster stays known that no slot map names
_LOOK_AGAIN = 0.1  # seconds between two looks at the least

logger = logging.getLogger("hubbub.redis")


def discovery(target: Target) -> Discovery:
    """How the servers of a URL are found."""
    if target.topology is Topology.SENTINEL:
        return Sentinels(target.seeds, target.master, target.server)
    if target.topology is Topology.CLUSTER:
        return ClusterNodes(target.seeds, target.server)
    return SingleServer(target.server)


class ShardMap:
    """`owners` holds the server of each slot, None for one that nobody owns. `rerouted` is called
    after a slot has got another owner; `ready` after a server can be given commands (again)."""

    def __init__(
        self,
        target: Target,
        ready: Callable[[Shard], None],
        rerouted: Callable[[], None],
        replicas: int,
    ) -> None:
        self._discovery = discovery(target)
        self._server = target.server
        self._ready = ready
        self._rerouted = rerouted
        self._replicas = replicas
        self.slot = self._discovery.slot
        self.sharded = self._discovery.sharded
        self.owners: list[Shard | None] = [None] * self._discovery.slots
        self._shards: dict[Address, Shard] = {}
        self._wanted_at: dict[Address, float] = {}
        self._tasks: dict[Address, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._look = asyncio.Event()

    @property
    def all(self) -> list[Shard]:
        """Every server known, also one that owns nothing (any more)."""
        return list(self._shards.values())

    @property
    def in_charge(self) -> list[Shard]:
        """Those that own a slot."""
        return [shard for shard in dict.fromkeys(self.owners) if shard is not None]

    @property
    def is_whole(self) -> bool:
        """Every slot has an owner that can be asked."""
        return all(shard is not None and shard.is_ready for shard in set(self.owners))

    async def run(self) -> None:
        """Until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for address, shard in self._shards.items():
                    self._tasks[address] = group.create_task(shard.run())
                await self._keep_looking()
        finally:
            self._group = None
            self._tasks.clear()
            self._discovery.close()

    def look_again(self) -> None:
        """Something does not fit what is known."""
        self._look.set()

    def heed(self, error: ReplyError, told_by: Address) -> Shard | None:
        """Take a server's word, `MOVED slot host:port` or `ASK slot host:port`, and return whom it
        names; None if it said something else, or has no slots to move."""
        words = error.text.split(" ")
        if not self.sharded or error.code not in {"MOVED", "ASK"} or len(words) != 3:
            return None
        host, _, port = words[2].rpartition(":")
        shard = self._shard(self._server.at(host or told_by.host, int(port)))
        slot = int(words[1])
        if error.code == "MOVED" and self.owners[slot] is not shard:
            self.owners[slot] = shard
            self._rerouted()
        self.look_again()
        return shard

    def _shard(self, address: Address) -> Shard:
        self._wanted_at[address] = time.monotonic()
        shard = self._shards.get(address)
        if shard is None:
            shard = self._shards[address] = Shard(
                address, self._ready, self._trouble, self._replicas
            )
            if self._group is not None:
                self._tasks[address] = self._group.create_task(shard.run())
        return shard

    def _trouble(self, shard: Shard) -> None:
        self.look_again()

    async def _keep_looking(self) -> None:
        pause, silent = pauses(), False
        while True:
            self._look.clear()
            try:
                found = await self._discovery.find(self.all)
            except LinkLost as error:
                if not silent:
                    logger.warning("cannot find the redis servers: %s; trying on", error)
                silent = True
                await asyncio.sleep(next(pause))
                continue
            pause, silent = pauses(), False
            self._apply(found)
            await asyncio.sleep(_LOOK_AGAIN)
            await self._wait()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._discovery.period):
                await self._look.wait()
        except TimeoutError:
            return  # time to look again, without a reason

    def _apply(self, found: list[Owned]) -> None:
        owners: list[Shard | None] = [None] * len(self.owners)
        for first, last, address in found:
            owners[first : last + 1] = [self._shard(address)] * (last + 1 - first)
        if owners != self.owners:
            self.owners = owners
            self._rerouted()
        self._retire()

    def _retire(self) -> None:
        """Leave servers that own nothing. What they owe is lost then, and asked for elsewhere."""
        # A slot on its way is answered for by a server that no slot map names so far.
        limit = time.monotonic() - (_FORGOTTEN if self.sharded else 0)
        needed = set(self.in_charge)
        for address, shard in tuple(self._shards.items()):
            if shard not in needed and self._wanted_at[address] < limit:
                del self._shards[address], self._wanted_at[address]
                self._tasks.pop(address).cancel()
