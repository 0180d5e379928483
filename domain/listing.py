"""Names in pages: the first ones after a name, of those that begin in a certain way."""

from collections.abc import Iterable
from heapq import nsmallest

from domain.identifiers import RoomId


def first_after(rooms: Iterable[RoomId], prefix: str, after: str, limit: int) -> list[RoomId]:
    """At most `limit` of the rooms, by name, that begin with `prefix` and come after `after`."""
    wanted = (room for room in rooms if room > after and room.startswith(prefix))
    return nsmallest(limit, wanted)
