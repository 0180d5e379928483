"""Compressed frames, made once for all members of a room who agreed to them.

A dialect is shared by its members, and so is this one around it: the hub groups the members with
compression apart from those without, and asks each group's dialect for a frame once. That works
because no window is kept from one message to the next, so a frame does not depend on what a member
got before. Replies and whatever is too short to gain are sent as they are, which the extension
allows for every single message.
"""

import zlib

from application.disconnects import Disconnect
from application.framing import payloads, text_frame
from application.ports.encoding import Dialect, RequestId
from domain.errors import HubbubError
from domain.identifiers import RoomId
from domain.member import PresenceChange, Snapshot
from domain.message import Message
from domain.timeline import Replay

WINDOW_BITS = 12  # a window of 4 KiB, the same for everybody
_MEMORY_LEVEL = 5
_LEAST = 128  # bytes of a frame below which compressing gains next to nothing
_DEFLATED = 0xC1  # FIN, RSV1 (RFC 7692, 6), opcode 1
_TAIL = b"\x00\x00\xff\xff"  # ends every flushed block and is not sent (RFC 7692, 7.2.1)


class Compressed(Dialect):
    """Another dialect, with what goes out to whole rooms compressed."""

    __slots__ = ("_plain",)

    def __init__(self, plain: Dialect) -> None:
        self._plain = plain

    def message(self, message: Message, skipped: int = 0) -> bytes | None:
        return _smaller(self._plain.message(message, skipped))

    def presence_change(self, change: PresenceChange) -> bytes | None:
        return _smaller(self._plain.presence_change(change))

    def presence_summary(self, room: RoomId, snapshot: Snapshot) -> bytes | None:
        return _smaller(self._plain.presence_summary(room, snapshot))

    def resync(self, room: RoomId, replay: Replay) -> bytes | None:
        return _smaller(self._plain.resync(room, replay))

    def removed(self, room: RoomId, code: str, reason: str) -> bytes | None:
        return self._plain.removed(room, code, reason)

    def ping(self) -> bytes | None:
        return self._plain.ping()

    def error(self, error: HubbubError, request: RequestId | None = None) -> bytes | None:
        return self._plain.error(error, request)

    def disconnect(self, disconnect: Disconnect) -> bytes | None:
        return self._plain.disconnect(disconnect)


def _smaller(frame: bytes | None) -> bytes | None:
    if frame is None or len(frame) < _LEAST:
        return frame
    return min(deflated(frame), frame, key=len)


def deflated(frame: bytes) -> bytes:
    """A whole text frame, compressed."""
    (payload,) = payloads(frame)
    deflate = zlib.compressobj(wbits=-WINDOW_BITS, memLevel=_MEMORY_LEVEL)
    data = deflate.compress(payload) + deflate.flush(zlib.Z_SYNC_FLUSH)
    return bytes((_DEFLATED,)) + text_frame(data.removesuffix(_TAIL))[1:]
