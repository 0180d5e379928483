"""Clearing away what a dead node held.

Rooms are taken from its list only once they are clear, and nothing that is done twice is told
twice: whoever comes after a janitor that died itself goes on where it stopped.
"""

import asyncio
import logging

from adapters.redis.keyspace import Keyspace
from adapters.redis.lease import Lease
from adapters.redis.presence_agenda import Agenda
from adapters.redis.presence_graces import Graces
from adapters.redis.presence_scripts import SWEEP, NodeKeys, presence_keys
from adapters.redis.store import Store
from domain.errors import BadName, HubbubError
from domain.identifiers import RoomId, room_id

PAGE = 500  # users, roughly
AT_ONCE = 32  # rooms

logger = logging.getLogger("hubbub.presence")


class Janitor:
    def __init__(
        self,
        store: Store,
        lease: Lease,
        agenda: Agenda,
        graces: Graces,
        keyspace: Keyspace,
        nodes: NodeKeys,
    ) -> None:
        self._store = store
        self._lease = lease
        self._agenda = agenda
        self._graces = graces
        self._keyspace = keyspace
        self._nodes = nodes
        self._found: asyncio.Queue[str] = asyncio.Queue()

    def found(self, dead: str) -> None:
        """A dead node was left to this one."""
        self._found.put_nowait(dead)

    async def run(self) -> None:
        """Clear away what is found, until cancelled."""
        while True:
            dead = await self._found.get()
            try:
                await self.clear(dead)
            except HubbubError as failure:  # it is left to somebody once more, soon
                logger.warning("clearing away node %s: %s", dead, failure.message)
            else:
                self._lease.renew_now()  # there may be more of them

    async def clear(self, dead: str) -> None:
        """Take all seats of a dead node. Raises Unavailable and OutcomeUnknown."""
        key = self._nodes.rooms(dead)
        cleared = 0
        while names := await self._store.command(key, "SRANDMEMBER", key, AT_ONCE):
            rooms = [room for room in map(_room, names) if room is not None]
            outcomes = await asyncio.gather(
                *(self.clear_room(dead, room) for room in rooms), return_exceptions=True
            )
            for outcome in outcomes:
                if outcome is not None:
                    raise outcome
            await self._store.command(key, "SREM", key, *names)
            cleared += len(names)
        await self._store.command(self._nodes.open(dead), "DEL", self._nodes.open(dead))
        await self._store.command(self._nodes.dead, "ZREM", self._nodes.dead, dead)
        logger.info("node %s is cleared away, out of %d rooms", dead, cleared)

    async def clear_room(self, dead: str, room: RoomId) -> None:
        """Take a dead node's seats in one room, and see to the graces it left."""
        keys = self._keyspace.room(room)
        cursor: str | bytes = "0"
        while True:
            words = (self._store.publish_command, keys.feed, dead, cursor, PAGE)
            cursor = await self._store.run_script(SWEEP, presence_keys(keys), words)
            if cursor == b"0":
                break
        left = await self._graces.end(room)
        if left is not None:
            await self._lease.register(room)  # or nobody would look into it after this node
            self._agenda.grace(room, left)


def _room(name: bytes) -> RoomId | None:
    try:
        return room_id(name.decode("ascii", "replace"))
    except BadName:
        logger.error("not a room name in the list of a dead node: %r", name[:64])
        return None
