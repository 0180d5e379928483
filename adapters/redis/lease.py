"""What a node is called, and the lease by which others see that it lives.

A lease that ended is never taken again: somebody may be clearing away what belongs to it. The node
goes on under a new name then, and says again, in that name, whatever it holds.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from adapters.redis.presence_scripts import LEASE, NodeKeys
from adapters.redis.store import Store
from domain.errors import HubbubError, Unavailable
from domain.identifiers import RoomId

LENGTH = 12.0  # seconds after its last renewal that a node is taken for dead
INTERVAL = 4.0  # between two renewals
RETRY = 0.5  # after a vain one
CLAIM = 5.0  # seconds a dead node is left to who was told of it
_MARGIN = 1.0  # a lease about to end is renewed before anything is built on it
_LATE = 1.5  # times the interval
_BATCH = 500  # rooms in one command

logger = logging.getLogger("hubbub.presence")


class Lease:
    """Belongs to one node; `rooms` are those in which it may hold something."""

    def __init__(
        self,
        store: Store,
        keys: NodeKeys,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.node = ""  # until the first lease
        self.former = ""
        self.rooms: set[RoomId] = set()
        self._store = store
        self._keys = keys
        self._on_renamed: list[Callable[[], None]] = []
        self._on_dead: list[Callable[[str], None]] = []
        self._clock = clock
        self._lock = asyncio.Lock()
        self._wake = asyncio.Event()
        self._attempts = 0
        self._until = float("-inf")
        self._renewed_at = float("-inf")
        self._steady_since = float("-inf")

    def on_renamed(self, callback: Callable[[], None]) -> None:
        """Call whenever the node has got a new name in place of a former one."""
        self._on_renamed.append(callback)

    def on_dead(self, callback: Callable[[str], None]) -> None:
        """Call with the name of a dead node that is left to this one."""
        self._on_dead.append(callback)

    async def hold(self) -> None:
        """Make sure of the lease before something is entered by it. Raises Unavailable."""
        if self._valid:
            return
        attempts = self._attempts
        async with self._lock:
            if self._valid:
                return
            if self._attempts != attempts:  # one of those before us in the queue tried in vain
                raise Unavailable("the node has no lease")
            await self._renew()

    @property
    def _valid(self) -> bool:
        return self._clock() <= self._until - _MARGIN

    async def register(self, room: RoomId) -> None:
        """Let who clears this node away look into a room. Raises Unavailable."""
        while room not in self.rooms:
            node = self.node
            await self._enlist(node, (room,))
            if node == self.node:  # no new name was taken meanwhile
                self.rooms.add(room)

    def dismiss(self, rooms: Iterable[RoomId]) -> None:
        """Nothing is left of this node in these rooms."""
        gone = list(rooms)
        self.rooms.difference_update(gone)
        for at in range(0, len(gone), _BATCH):
            # Should it get lost, somebody will look into an empty room.
            key = self._keys.rooms(self.node)
            self._store.send_command(key, ("SREM", key, *gone[at : at + _BATCH]))

    def resign(self) -> None:
        """Let the lease end now, without waiting: others need not wait for it either."""
        key = self._keys.leases
        self._store.send_command(key, ("ZADD", key, "XX", 0, self.node))

    def renew_now(self) -> None:
        """Something happened to the store: see whether the lease is still there."""
        self._wake.set()

    async def renew(self) -> None:
        """Raises Unavailable."""
        async with self._lock:
            await self._renew()

    async def run(self) -> None:
        """Renew until cancelled."""
        while True:
            self._wake.clear()
            pause = INTERVAL
            try:
                await self.renew()
            except HubbubError as failure:
                logger.warning("the lease of node %s: %s", self.node, failure.message)
                pause = RETRY
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()

    async def _renew(self) -> None:
        self._attempts += 1
        started = self._clock()
        if started - self._renewed_at > INTERVAL * _LATE:
            # Who was late may not have been the only one. Nobody is judged by a node that has
            # not seen a whole lease go by in peace.
            self._steady_since = started
        dead = await self._ask(self.node, new=False) if self.node else None
        if dead is None:
            self._steady_since = started
            await self._take_new_name()
        self._renewed_at, self._until = started, started + LENGTH
        if dead:
            for callback in self._on_dead:
                callback(dead)

    async def _take_new_name(self) -> None:
        node = secrets.token_hex(8)
        if await self._ask(node, new=True) is None:
            raise Unavailable("a new lease was refused")
        listed: set[RoomId] = set()
        while missing := self.rooms - listed:  # more may be registered under the name until now
            await self._enlist(node, missing)
            listed |= missing
        self.former, self.node = self.node, node
        if self.former:
            logger.warning("the lease of node %s ended; it is %s now", self.former, node)
            for callback in self._on_renamed:
                callback()

    async def _ask(self, node: str, *, new: bool) -> str | None:
        """None when the lease is lost."""
        judge = self._clock() - self._steady_since >= LENGTH
        words = (node, int(LENGTH * 1000), int(new), int(judge), int(CLAIM * 1000))
        keys = (self._keys.leases, self._keys.dead)
        outcome, *dead = await self._store.run_script(LEASE, keys, words)
        return dead[0].decode() if outcome == b"held" else None

    async def _enlist(self, node: str, rooms: Iterable[RoomId]) -> None:
        key, listed = self._keys.rooms(node), list(rooms)
        for at in range(0, len(listed), _BATCH):
            await self._store.command(key, "SADD", key, *listed[at : at + _BATCH])
