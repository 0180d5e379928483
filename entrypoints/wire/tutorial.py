"""The `/ws…` doors: frames that a reader of a WebSocket tutorial expects, and no others.

Their shapes are fixed. Fields may be added, none renamed or dropped; besides them there are only
`error` and `resync`, so everything else of protocol v1 is not shown here.
"""

from msgspec import Raw, Struct, ValidationError
from msgspec.json import Decoder

from application.disconnects import Disconnect
from application.framing import text_frame
from application.ports.encoding import Dialect, RequestId
from domain.errors import HubbubError
from domain.identifiers import RoomId, UserId
from domain.member import PresenceChange, Snapshot
from domain.message import Message
from domain.timeline import Replay
from entrypoints.wire.fragments import caught_up, error_frame, listed, sender, timestamp


class _Text(Struct):
    text: Raw = Raw(b"null")


_text = Decoder(_Text)
_TEXT_STRING = b'{"text":"'


def _message(message: Message, content: bytes, skipped: int) -> bytes:
    place = b'"seq":%d' % message.seq if message.seq else b'"ephemeral":true'
    behind = b',"skipped":%d' % skipped if skipped else b""
    return b'{"type":"message","from":%b,%b,%b,"ts":%b%b}' % (
        sender(message.sender),
        content,
        place,
        timestamp(message.ts),
        behind,
    )


def _anything(message: Message, skipped: int = 0) -> bytes:
    """A message as JSON, its data as it is."""
    return _message(message, b'"data":%b' % message.data, skipped)


def _texting(message: Message, skipped: int = 0) -> bytes:
    """A message as JSON: `{"text": T}` as its text, anything else as its text and its data."""
    return _message(message, _text_fields(message.data), skipped)


def _text_fields(data: bytes) -> bytes:
    # Whoever publishes at these doors sends this shape; a text without quotes is seen to be all.
    if data.startswith(_TEXT_STRING) and data.find(b'"', len(_TEXT_STRING)) == len(data) - 2:
        return data[1:-1]
    try:
        text = bytes(_text.decode(data).text)
    except ValidationError:  # not an object
        text = b"null"
    # Canonical bytes: only an object with this one key is equal to this.
    if data == b'{"text":%b}' % text:
        return data[1:-1]
    return b'"text":%b,"data":%b' % (text, data)


class Silent(Dialect):
    """Doors without rooms (`/ws`, `/ws/secure`): errors only."""

    __slots__ = ()

    def message(self, message: Message, skipped: int = 0) -> bytes | None:
        return None

    def presence_change(self, change: PresenceChange) -> bytes | None:
        return None

    def presence_summary(self, room: RoomId, snapshot: Snapshot) -> bytes | None:
        return None

    def resync(self, room: RoomId, replay: Replay) -> bytes | None:
        return None

    def removed(self, room: RoomId, code: str, reason: str) -> bytes | None:
        return None

    def ping(self) -> bytes | None:
        return None

    def error(self, error: HubbubError, request: RequestId | None = None) -> bytes:
        return error_frame(error, request)

    def disconnect(self, disconnect: Disconnect) -> bytes | None:
        return None


class Heartbeat(Silent):
    """`/ws/heartbeat/…`: a page sees the ping and answers it."""

    __slots__ = ()

    def ping(self) -> bytes:
        return ping()


class Lobby(Silent):
    """`/ws/{client_id}`."""

    __slots__ = ()

    def message(self, message: Message, skipped: int = 0) -> bytes:
        return text_frame(_anything(message, skipped))

    def presence_change(self, change: PresenceChange) -> bytes:
        return text_frame(
            b'{"type":"%b","user":"%b","count":%d}'
            % (change.kind.encode(), change.user.encode(), change.count)
        )

    def resync(self, room: RoomId, replay: Replay) -> bytes:
        return _resync(room, replay, listed(map(_anything, replay.messages)))


class Scalable(Silent):
    """`/ws/scalable/…`: messages only."""

    __slots__ = ()

    def message(self, message: Message, skipped: int = 0) -> bytes:
        return text_frame(_texting(message, skipped))

    def resync(self, room: RoomId, replay: Replay) -> bytes:
        return _resync(room, replay, listed(map(_texting, replay.messages)))


class TextRoom(Scalable):
    """`/ws/rooms/…`."""

    __slots__ = ()

    def presence_change(self, change: PresenceChange) -> bytes:
        return text_frame(
            b'{"type":"%b","user":"%b"}' % (change.kind.encode(), change.user.encode())
        )


def _resync(room: RoomId, replay: Replay, messages: bytes) -> bytes:
    standing = caught_up(replay.position, replay.recovery, messages, replay.more)
    return text_frame(b'{"type":"resync","room":"%b",%b}' % (room.encode(), standing))


def echo(data: bytes, ts: float) -> bytes:
    """`/ws`: what came in, as canonical JSON, and when (unix seconds)."""
    return text_frame(b'{"echo":%b,"ts":%b}' % (data, timestamp(ts)))


def connected(user: UserId) -> bytes:
    """`/ws/secure`: the token was good."""
    return text_frame(b'{"type":"connected","user_id":"%b"}' % user.encode())


def acknowledged(data: bytes) -> bytes:
    """`/ws/secure` and `/ws/heartbeat`: what came in, as canonical JSON."""
    return text_frame(b'{"type":"ack","received":%b}' % data)


def ping() -> bytes:
    """`/ws/heartbeat`: to be answered with `{"type":"pong"}`."""
    return text_frame(b'{"type":"ping"}')
