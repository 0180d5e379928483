"""Seats of nodes that nobody knows of any more.

Who dies is found by its lease. Where that is gone as well, with the part of a cluster that held it
or by the hand of an operator, nobody would ever look for what that node held. So whoever reads a
room takes note of whose seats are in it.
"""

import asyncio
import logging

from adapters.redis.lease import LENGTH, Lease
from adapters.redis.presence_agenda import Agenda
from adapters.redis.presence_janitor import Janitor
from adapters.redis.presence_records import Page
from adapters.redis.presence_scripts import NodeKeys
from adapters.redis.store import Store
from domain.identifiers import RoomId

_MAX_NODES = 1000  # noted at a time

logger = logging.getLogger("hubbub.presence")


class Orphans:
    """A node that lives may be without a lease for a moment, until it has taken a new one and said
    again in that name what it holds: hence nobody is an orphan at once."""

    def __init__(
        self, store: Store, lease: Lease, agenda: Agenda, nodes: NodeKeys, janitor: Janitor
    ) -> None:
        self._store = store
        self._lease = lease
        self._agenda = agenda
        self._nodes = nodes
        self._janitor = janitor
        self._seen: dict[str, set[RoomId]] = {}  # rooms by the node that has seats in them
        self._unknown: dict[str, float] = {}  # nodes without a lease, and since when

    def note(self, room: RoomId, page: Page) -> None:
        """Take note of the nodes with seats on a page."""
        for entry in page.entries:
            for node in entry.seats.keys() - {self._lease.node, self._lease.former}:
                if node in self._seen or len(self._seen) < _MAX_NODES:
                    self._seen.setdefault(node, set()).add(room)

    async def check(self) -> None:
        """Forget the nodes that are known, and clear away who has not been for the length of a
        lease. Raises Unavailable and OutcomeUnknown; it is gone on with the next time."""
        for node in list(self._seen):
            if await self._is_known(node):
                self._unknown.pop(node, None)
                del self._seen[node]
            elif self._agenda.now() - self._unknown.setdefault(node, self._agenda.now()) >= LENGTH:
                while rooms := self._seen[node]:  # more may be seen meanwhile
                    room = next(iter(rooms))
                    await self._janitor.clear_room(node, room)
                    rooms.discard(room)
                logger.warning("node %s was unknown, and is cleared away", node)
                del self._seen[node], self._unknown[node]

    async def _is_known(self, node: str) -> bool:
        """Whether its lease or its death is on record."""
        scores = await asyncio.gather(
            *(
                self._store.command(key, "ZSCORE", key, node)
                for key in (self._nodes.leases, self._nodes.dead)
            )
        )
        return any(score is not None for score in scores)
