"""What there is to do in which rooms, for whoever comes round next."""

from collections.abc import Callable

from adapters.redis.presence_room import AttendedRoom
from application.ports.metrics import Metrics
from domain.identifiers import RoomId


class Agenda:
    """Rooms by what they need. Rooms that need nothing cost nothing."""

    def __init__(self, clock: Callable[[], float], metrics: Metrics) -> None:
        self.now = clock
        self._metrics = metrics
        self.unsettled: dict[AttendedRoom, float] = {}  # seats to speak of again, not before when
        self.stale: dict[AttendedRoom, float] = {}  # to be read, not before when
        self.lagging: dict[AttendedRoom, None] = {}  # the feed is behind, or somebody waits
        self.idle: dict[AttendedRoom, float] = {}  # nobody sits here, and since when
        self.graces: dict[RoomId, float] = {}  # when the next one ends that is ours to end

    def settle(self, room: AttendedRoom, pause: float = 0.0) -> None:
        """Take note of a room whose seats changed."""
        if room.unsettled:
            self.unsettled.setdefault(room, self.now() + pause)
        if room.unused:
            self.idle.setdefault(room, self.now())

    def reread(self, room: AttendedRoom, cause: str, pause: float = 0.0) -> None:
        """The replica of a room does not follow any more. `cause` is a label for the metrics."""
        if room not in self.stale:
            self._metrics.count("presence_rereads", label=cause)
        room.lose_track()
        self.stale[room] = self.now() + pause

    def expect(self, room: AttendedRoom, life: bytes, revision: int) -> None:
        """The feed of a room is to come this far."""
        if room.expect(life, revision, self.now()):
            self.lagging[room] = None

    def grace(self, room: RoomId, seconds: float) -> None:
        """Somebody's grace in a room ends by then, and nobody else may be there to end it."""
        ends = self.now() + seconds
        self.graces[room] = min(ends, self.graces.get(room, ends))

    def forget(self, room: AttendedRoom) -> None:
        """A room is not attended any more. Its graces remain."""
        for rooms in (self.unsettled, self.stale, self.lagging, self.idle):
            rooms.pop(room, None)
