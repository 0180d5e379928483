"""Directory over Redis: each node keeps a sorted set of its rooms, which counts while its lease
does. A room costs one member of that set, said together with all others that changed in a moment;
connections and messages cost nothing.
"""

import asyncio
import logging
from collections.abc import Sequence
from itertools import chain, islice
from typing import Any

from adapters.redis.lease import Lease
from adapters.redis.link import Word
from adapters.redis.presence_scripts import NodeKeys
from adapters.redis.store import Store
from application.ports.directory import Directory
from domain.errors import BadName, HubbubError, OutcomeUnknown, Unavailable
from domain.identifiers import RoomId, room_id
from domain.listing import first_after

MOMENT = 0.1  # seconds in which changes gather
CHECK = 60.0  # seconds between two looks whether Redis has what was said
RETRY = 0.5  # seconds before what could not be said is said again
_KEPT = 86_400_000  # ms for which the set of a node lives on that nobody clears away
_BATCH = 500  # rooms in one command
_ABOVE_ALL = "\x7f"  # comes after every character of a name

logger = logging.getLogger("hubbub.redis")


class RedisDirectory(Directory):
    """See the port. `lease` is run by the presence it belongs to, `store` by whoever made it."""

    def __init__(self, store: Store, lease: Lease, nodes: NodeKeys | None = None) -> None:
        self._store = store
        self._lease = lease
        self._nodes = nodes or NodeKeys()
        self._rooms: set[RoomId] = set()
        self._changed: set[RoomId] = set()  # to be said
        self._doubt = False  # whether Redis has what was said before
        self._due = asyncio.Event()
        lease.on_renamed(self._say_again)
        store.on_store_changed(self._say_again)

    def opened(self, room: RoomId) -> None:
        self._rooms.add(room)
        self._note(room)

    def closed(self, room: RoomId) -> None:
        self._rooms.discard(room)
        self._note(room)

    async def page(self, prefix: str, after: str, limit: int) -> Sequence[RoomId]:
        try:
            elsewhere = await asyncio.gather(
                *(self._page(node, prefix, after, limit) for node in await self._others())
            )
        except OutcomeUnknown as error:
            raise Unavailable(error.message) from None
        here = first_after(self._rooms, prefix, after, limit)
        return sorted({*here, *chain.from_iterable(elsewhere)})[:limit]

    @property
    def settled(self) -> bool:
        """Whether Redis has been told everything."""
        return not (self._changed or self._doubt or self._due.is_set())

    async def run(self) -> None:
        """Whatever fails is said again."""
        while True:
            try:
                async with asyncio.timeout(CHECK):
                    await self._due.wait()
                await asyncio.sleep(MOMENT)
            except TimeoutError:
                pass  # time to look
            try:
                await self.say()
            except HubbubError as failure:
                logger.warning("the rooms of this node cannot be told: %s", failure.message)
                await asyncio.sleep(RETRY)

    async def say(self) -> None:
        """Tell Redis what it has not. Raises Unavailable and OutcomeUnknown."""
        await self._lease.hold()
        if not self._doubt and not self._changed:
            await self._compare()
        # The name of the node may become another one at any moment: then there is a doubt.
        while self._doubt or self._changed:
            await (self._begin_anew() if self._doubt else self._say_some())
        self._due.clear()

    async def _compare(self) -> None:
        key, count = self._key, len(self._rooms)
        kept, _ = await asyncio.gather(
            self._store.command(key, "ZCARD", key),
            self._store.command(key, "PEXPIRE", key, _KEPT),
        )
        self._doubt = self._doubt or (kept != count and not self._changed)

    @property
    def _key(self) -> str:
        return self._nodes.open(self._lease.node)

    def _note(self, room: RoomId) -> None:
        self._changed.add(room)
        self._due.set()

    def _say_again(self) -> None:
        self._doubt = True
        self._due.set()

    async def _begin_anew(self) -> None:
        self._doubt = False
        try:
            await self._store.command(self._key, "DEL", self._key)
        except BaseException:
            self._doubt = True
            raise
        self._changed |= self._rooms

    async def _say_some(self) -> None:
        some = list(islice(self._changed, _BATCH))
        self._changed.difference_update(some)  # one that changes meanwhile is said once more
        key = self._key
        there = [room for room in some if room in self._rooms]
        gone = [room for room in some if room not in self._rooms]
        try:
            if there:
                scored: list[Word] = [word for room in there for word in (0, room)]
                await self._store.command(key, "ZADD", key, *scored)
            if gone:
                await self._store.command(key, "ZREM", key, *gone)
            await self._store.command(key, "PEXPIRE", key, _KEPT)
        except BaseException:
            self._changed.update(some)
            raise

    async def _others(self) -> list[str]:
        """All other nodes that live."""
        leases = self._nodes.leases
        time, ends = await asyncio.gather(
            self._store.command(leases, "TIME"),
            self._store.command(leases, "ZRANGE", leases, 0, -1, "WITHSCORES"),
        )
        now = int(time[0]) * 1000 + int(time[1]) // 1000
        alive = [node.decode() for node, end in ends if end > now]
        return [node for node in alive if node != self._lease.node]

    async def _page(self, node: str, prefix: str, after: str, limit: int) -> list[RoomId]:
        key = self._nodes.open(node)
        first = f"({after}" if after >= prefix else f"[{prefix}"
        last = f"({prefix}{_ABOVE_ALL}"
        found: list[Any] = await self._store.command(
            key, "ZRANGEBYLEX", key, first, last, "LIMIT", 0, limit
        )
        return [room for name in found if (room := _room(name)) is not None]


def _room(name: bytes) -> RoomId | None:
    try:
        return room_id(name.decode("ascii", "replace"))
    except BadName:
        logger.error("not a room name in the list of a node: %r", name[:64])
        return None
