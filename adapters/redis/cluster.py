"""Finding the owners of a cluster's slots."""

import asyncio
import random
from collections.abc import Iterator, Sequence
from typing import Any

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from adapters.redis.addresses import Address
from adapters.redis.link import OPEN_DEADLINE, Link, LinkLost, ReplyError
from adapters.redis.shard import Shard
from adapters.redis.topology import Discovery, Owned

PERIOD = 10.0  # seconds between two looks without a reason; moved slots make themselves known
_UNKNOWN = {b"", b"?", None}  # hosts: the one that was asked


class ClusterNodes(Discovery):
    """Asks whoever answers first: a server we are connected to, or one in the URL."""

    sharded = True
    slots = REDIS_CLUSTER_HASH_SLOTS
    period = PERIOD

    def __init__(self, seeds: Sequence[Address], server: Address) -> None:
        self._seeds = seeds
        self._server = server

    def slot(self, key: str) -> int:
        return key_slot(key.encode())

    async def find(self, known: Sequence[Shard]) -> list[Owned]:
        failure: Exception = LinkLost("no node of the cluster is known")
        for address, link in self._whom(known):
            try:
                return await self._ask(address, link)
            except (LinkLost, ReplyError) as error:
                failure = error
        raise LinkLost(str(failure))

    def close(self) -> None:
        pass

    def _whom(self, known: Sequence[Shard]) -> Iterator[tuple[Address, Link | None]]:
        """Never the same one first: it may be one that has not heard of a change."""
        ready = [shard for shard in known if shard.is_ready]
        for shard in random.sample(ready, len(ready)):
            yield shard.address, shard.link
        addresses = {shard.address for shard in known if shard not in ready} | {*self._seeds}
        for address in random.sample(sorted(addresses, key=str), len(addresses)):
            yield address, None

    async def _ask(self, address: Address, link: Link | None) -> list[Owned]:
        own = None if link is not None and link.is_open else await Link.open(address)
        try:
            async with asyncio.timeout(OPEN_DEADLINE):
                told = await (own or link).call("CLUSTER", "SLOTS")  # type: ignore[union-attr]
        except TimeoutError:
            raise LinkLost(f"{address} does not answer") from None
        finally:
            if own is not None:
                own.close()
        if not told:
            raise LinkLost(f"{address} belongs to no cluster")
        return [self._owned(found, address) for found in told]

    def _owned(self, found: Any, asked: Address) -> Owned:
        first, last, (host, port, *_), *_ = found
        name = asked.host if host in _UNKNOWN else host.decode()
        return Owned(first, last, self._server.at(name, port))
