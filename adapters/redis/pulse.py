"""Finds out whether a connection that looks well hears what is published."""

import itertools
import logging
import secrets

from adapters.redis.ear import Ear
from adapters.redis.store import Store

_MISSES = 2  # beats in a row without a sound
_TRIES = 10_000  # names tried until one belongs to the server; even one slot of a thousand is found

logger = logging.getLogger("hubbub.redis")


class Pulse:
    """A channel of our own at one server: published to by the store, heard by the ear.

    `healthy`: what was published on this connection was heard.
    """

    def __init__(self, ear: Ear, store: Store, prefix: str) -> None:
        self.healthy = False
        self.key = b""
        self._name = ""
        self._ear = ear
        self._store = store
        self._due = False  # something has to be heard
        self._misses = 0
        self._owed: object | None = None  # what the ear was owed when the last pulse was heard
        self._stem = f"{prefix}:{{{secrets.token_hex(8)}"

    def connected(self) -> None:
        self._due = False
        self._misses = 0
        self._owed = None
        self._begin()

    def disconnected(self) -> None:
        self.healthy = False

    def confirmed(self) -> None:
        self._publish()

    def ended(self) -> None:
        """Its slot may have gone elsewhere; the next beat finds another name."""
        self.key = b""

    def heard(self) -> None:
        owed, self._owed = self._owed, self._ear.owed
        if owed is not None and owed is self._owed:
            # One beat later, and in vain: what was said in between must have been lost.
            logger.warning("redis at %s confirms nothing", self._ear.address)
            self._ear.rebuild()
            return
        self.healthy = True
        self._due = False
        self._misses = 0
        self._ear.steady()

    def beat(self) -> None:
        link = self._ear.link
        if link is None:
            return
        # With much to hear, the pulse may be behind it: whoever hears anything is not deaf.
        self._misses = self._misses + 1 if self._due and not link.heard else 0
        link.heard = False
        if self._misses >= _MISSES:
            logger.warning("redis at %s publishes, but is not heard", self._ear.address)
            self.healthy = False
            self._ear.rebuild()
        elif self.key and self._belongs(self._name):
            self._publish()
        else:
            if self.key:
                self._ear.unsubscribe([self.key])
            self._begin()

    def _begin(self) -> None:
        names = (f"{self._stem}-{number}}}:pulse" for number in itertools.count())
        for name in itertools.islice(names, _TRIES):
            if self._belongs(name):
                self._name, self.key = name, name.encode()
                self._due = True
                self._ear.subscribe([self.key])
                return
        self.key = b""

    def _belongs(self, name: str) -> bool:
        shard = self._store.owner(name)
        return shard is not None and shard.address == self._ear.address

    def _publish(self) -> None:
        command = (self._store.publish_command, self._name, b"")
        self._due = self._store.send_command(self._name, command) or self._due
