"""Patterns of room names, as grants and room options use them.

A pattern is a room name, or the beginning of one and then a single `*`. Personal rooms (`@ann`)
are matched only by patterns that begin with `@` themselves: whoever writes `*` means rooms.
"""

import re
from collections.abc import Iterable

from domain.errors import BadName
from domain.identifiers import RoomId, room_id

_STEM = re.compile(r"@?[A-Za-z0-9_.:@~-]{0,128}\Z")


class RoomPatterns:
    """A set of patterns; asking costs the same for one pattern as for a thousand literal names."""

    __slots__ = ("_every_shared", "_names", "_stems")

    def __init__(self, patterns: Iterable[str]) -> None:
        """Raises ValueError for a malformed pattern."""
        checked = [_check(pattern) for pattern in patterns]
        self._names = frozenset(pattern for pattern in checked if pattern[-1] != "*")
        # "*" stands apart: an empty stem would match personal rooms as well.
        self._every_shared = "*" in checked
        self._stems = tuple({p[:-1] for p in checked if p[-1] == "*" and p != "*"})

    @property
    def beginnings(self) -> frozenset[str]:
        """Every room that matches begins with one of these, whole names among them."""
        everything = ("",) if self._every_shared else ()
        return frozenset((*everything, *self._stems, *self._names))

    def match(self, room: RoomId) -> bool:
        """Whether one of the patterns is about this room."""
        return (
            (self._every_shared and room[0] != "@")
            or room in self._names
            or room.startswith(self._stems)
        )


def _check(pattern: str) -> str:
    if pattern.endswith("*"):
        if _STEM.match(pattern[:-1]):
            return pattern
    elif "*" not in pattern:
        try:
            return room_id(pattern)
        except BadName as error:
            raise ValueError(f"{pattern!r} is no pattern of room names: {error}") from error
    raise ValueError(
        f"{pattern!r} is no pattern of room names: write a name, or the beginning of one and "
        "then a single * at the end"
    )
