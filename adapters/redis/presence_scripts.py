"""The scripts of presence, and the names in Redis that they are given."""

from importlib.resources import files

from adapters.redis.keyspace import PREFIX, RoomKeys
from adapters.redis.store import Script

_SHARED = (files("adapters.redis") / "scripts" / "presence_room.lua").read_text()


def _of_room(name: str) -> Script:
    """A script on one room, behind what all of those share."""
    return Script(name, _SHARED + Script(name).source)


SEAT = _of_room("presence_seat")
READ = _of_room("presence_read")
RESTORE = _of_room("presence_restore")
EXPIRE = _of_room("presence_expire")
SWEEP = _of_room("presence_sweep")
LEASE = Script("presence_lease")


def presence_keys(room: RoomKeys) -> tuple[str, str, str]:
    """What every script on a room is given."""
    return room.of("who"), room.of("users"), room.of("grace")


class NodeKeys:
    """Names of what nodes know of each other, all in one slot of a cluster."""

    def __init__(self, prefix: str = PREFIX) -> None:
        # No room's tag: those are digests.
        self._stem = f"{prefix}:{{nodes}}:"
        self.leases = self._stem + "leases"
        self.dead = self._stem + "dead"

    def open(self, node: str) -> str:
        """The sorted set of rooms that are live on a node."""
        return f"{self._stem}open:{node}"

    def rooms(self, node: str) -> str:
        """The set of rooms that a node holds seats or graces in, or held a while ago."""
        return f"{self._stem}rooms:{node}"
