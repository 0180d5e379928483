"""Event streams: protocol v1 as `text/event-stream`, for readers.

`data` is the frame of `/v1/ws`, letter by letter. A message has no event name, so that a page gets
it by `onmessage`; everything else is named after its type. Where `/v1/ws` puts a page of messages
into a `joined` or a `resync`, here each of them is an event of its own behind it, because each
needs its id.
"""

from collections.abc import Sequence

from application.disconnects import Disconnect
from application.framing import payload
from application.join_room import Joined
from application.ports.encoding import Dialect, RequestId
from domain.errors import HubbubError
from domain.identifiers import RoomId
from domain.member import PresenceChange, Snapshot
from domain.message import Message
from domain.timeline import Replay
from entrypoints.wire import replies
from entrypoints.wire.event_ids import OUT, OVER, id_line, mark_of, place_line
from entrypoints.wire.v1 import V1

_v1 = V1()
_PING = b": ping\n\n"
_LEAST_WAIT = 1.0  # seconds


def event(name: str, frame: bytes) -> bytes:
    """A named event around a frame of protocol v1."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), payload(frame))


def retry(seconds: float) -> bytes:
    """The line that tells a browser how long to wait before it comes back. It also waits that long
    between one attempt and the next, for as long as there is no answer: so never for nothing."""
    return b"retry: %d\n" % (max(seconds, _LEAST_WAIT) * 1000)


def opening(patience: float, connected: bytes) -> bytes:
    """What every stream begins with. `patience` is in seconds, `connected` the frame."""
    return retry(patience) + event("connected", connected)


class Events(Dialect):
    """What readers are sent. There is one for all streams of the same kind."""

    __slots__ = ("_alone", "_presence")

    def __init__(self, *, alone: bool, presence: bool) -> None:
        """`alone`: for streams of one room, whose ids are whole as they are; those of several are
        to be stamped. `presence`: who is there is shown."""
        self._alone = alone
        self._presence = presence

    def message(self, message: Message, skipped: int = 0) -> bytes:
        data = payload(_v1.message(message, skipped))
        if not message.seq:
            return b"data: %b\n\n" % data
        return b"%bdata: %b\n\n" % (self._line(message.room, message.log, message.seq), data)

    def joined(self, joined: Joined) -> bytes:
        """Where a reader stands in a room, then the first of the messages it missed."""
        replay = _verdict_of(joined.replay)
        recovery, _, position, more = replay
        frame = replies.joined(None, joined.room, position, recovery, [], more, joined.snapshot)
        return self._standing("joined", joined.room, frame, joined.replay)

    def resync(self, room: RoomId, replay: Replay) -> bytes:
        return self._standing("resync", room, _v1.resync(room, _verdict_of(replay)), replay)

    def _standing(self, name: str, room: RoomId, frame: bytes, replay: Replay) -> bytes:
        position = _verdict_of(replay).position
        verdict = self._line(room, position.log, position.seq) + event(name, frame)
        return b"".join([verdict, *map(self.message, replay.messages)])

    def presence_change(self, change: PresenceChange) -> bytes | None:
        return event(change.kind, _v1.presence_change(change)) if self._presence else None

    def presence_summary(self, room: RoomId, snapshot: Snapshot) -> bytes | None:
        return event("presence", _v1.presence_summary(room, snapshot)) if self._presence else None

    def removed(self, room: RoomId, code: str, reason: str) -> bytes | None:
        """None ends a stream of this one room."""
        if self._alone:
            return None
        return place_line(room, OUT) + event("removed", _v1.removed(room, code, reason))

    def ping(self) -> bytes:
        return _PING

    def error(self, error: HubbubError, request: RequestId | None = None) -> bytes | None:
        return None

    def disconnect(self, disconnect: Disconnect) -> bytes:
        return farewell(disconnect)

    def _line(self, room: RoomId, log: str, seq: int) -> bytes:
        mark = mark_of(log, seq)
        return id_line(mark) if self._alone else place_line(room, mark)


def farewell(disconnect: Disconnect, marks: Sequence[bytes] = ()) -> bytes:
    """The last event of a stream.

    Its id says so where nobody is to come back, with the marks that were handed in, for whoever
    begins anew with another credential. Otherwise it has none: the one before it still counts.
    """
    wait = b"" if disconnect.reconnect_after is None else retry(disconnect.reconnect_after)
    final = 4000 <= disconnect.code < 4100
    line = id_line(OVER + b",".join(marks)) if final else b""
    return line + wait + event("disconnect", _v1.disconnect(disconnect))


def _verdict_of(replay: Replay) -> Replay:
    """A replay before the first of its messages, which then are still to come."""
    recovery, messages, position, _ = replay
    if not messages:
        return replay
    before = position._replace(seq=messages[0].seq - 1)
    return Replay(recovery, [], before, True)
