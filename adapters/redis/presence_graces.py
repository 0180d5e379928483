"""Ending the graces that began on this node, or were left by a dead one."""

from itertools import islice
from typing import Any

from adapters.redis.keyspace import Keyspace
from adapters.redis.lease import Lease
from adapters.redis.presence_agenda import Agenda
from adapters.redis.presence_scripts import EXPIRE, presence_keys
from adapters.redis.store import Store
from domain.errors import HubbubError
from domain.identifiers import RoomId

AT_ONCE = 200  # users told to be gone by one call
_MAX_ROOMS = 2000  # looked through at a time
_RETRY = 1.0  # seconds after a vain attempt


class Graces:
    def __init__(self, store: Store, lease: Lease, agenda: Agenda, keyspace: Keyspace) -> None:
        self._store = store
        self._lease = lease
        self._agenda = agenda
        self._keyspace = keyspace
        self.ending: set[RoomId] = set()  # rooms that Redis is looking through

    def end_due(self) -> None:
        """Let everybody go whose grace is over."""
        now, graces = self._agenda.now(), self._agenda.graces
        due = (room for room, ends in graces.items() if ends <= now)
        for room in list(islice(due, _MAX_ROOMS)):
            del graces[room]
            self._end(room)

    async def end(self, room: RoomId) -> float | None:
        """Let go whose grace is over in one room. Returns seconds until the next one ends."""
        keys, words = self._call(room)
        return _seconds(await self._store.run_script(EXPIRE, keys, words))

    def _end(self, room: RoomId) -> None:
        keys, words = self._call(room)
        self.ending.add(room)

        def done(reply: Any) -> None:
            self.ending.discard(room)
            left = _RETRY if isinstance(reply, HubbubError) else _seconds(reply)
            if left is not None:
                self._agenda.grace(room, left)

        self._store.submit(EXPIRE, keys, lambda _: words, done, patient=True)

    def _call(self, room: RoomId) -> tuple[tuple[str, str, str], tuple[str | bytes | int, ...]]:
        keys = self._keyspace.room(room)
        words = (self._store.publish_command, keys.feed, self._lease.node, AT_ONCE)
        return presence_keys(keys), words


def _seconds(reply: int) -> float | None:
    return None if reply < 0 else reply / 1000
