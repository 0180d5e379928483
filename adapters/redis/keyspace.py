"""Every name in Redis that belongs to a room.

Room, user and key names never stand in a Redis name themselves, only digests of them, so that no
name can be taken for another one's: whatever their characters, different rooms differ in the tag,
and what belongs to one room differs in a suffix that is ours. All names of a room share one hash
tag and so one slot of a cluster: a script may touch them together.
"""

from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

from domain.identifiers import RoomId

PREFIX = "hubbub"
CACHED_ROOMS = 20_000  # rooms whose names are kept at hand


class RoomKeys(NamedTuple):
    """Names of one room. `stem` is what they all begin with."""

    stem: str
    meta: str
    log: str
    feed: str

    def of(self, kind: str) -> str:
        """A further name of this room. `kind` is a word of ours, never anybody's input."""
        return self.stem + kind

    def publish_key(self, principal: str, key: str) -> str:
        """Where it is remembered what `principal` published under `key` in this room."""
        return f"{self.stem}key:{_digest(_framed(principal) + key.encode())}"


class Keyspace:
    """Names of everything under one prefix."""

    def __init__(self, prefix: str = PREFIX) -> None:
        """Raises ValueError for a prefix that would decide the slot of a cluster."""
        if "{" in prefix or "}" in prefix:
            raise ValueError(f"a prefix has no braces: {prefix}")
        self._prefix = prefix
        self.term = f"{prefix}:term"
        self.room = lru_cache(CACHED_ROOMS)(self._room)

    def _room(self, room: RoomId) -> RoomKeys:
        stem = f"{self._prefix}:{{{_digest(room.encode())}}}:"
        return RoomKeys(stem, stem + "meta", stem + "log", stem + "feed")


def _digest(name: bytes) -> str:
    return blake2b(name, digest_size=16).hexdigest()


def _framed(name: str) -> bytes:
    """Bytes that say where they end: two of them in a row can be read in one way only."""
    encoded = name.encode()
    return b"%d:%b" % (len(encoded), encoded)
