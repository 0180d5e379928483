"""Protocol v1: what `/v1/ws` is told of its own accord. PROTOCOL.md shows every frame."""

from application.disconnects import Disconnect
from application.framing import text_frame
from application.ports.encoding import Dialect, RequestId
from domain.errors import HubbubError
from domain.identifiers import RoomId
from domain.member import ChangeKind, PresenceChange, Snapshot
from domain.message import Message
from domain.timeline import Replay
from entrypoints.wire.fragments import (
    caught_up,
    error_frame,
    listed,
    members_json,
    number,
    placed,
    quoted,
    sender,
    timestamp,
)

_MESSAGE = b'{"type":"message","room":"%b","seq":%d,"id":"%b","from":"%b","data":%b,"ts":%b}'
_OPENING = (
    b'{"type":"message","room":"%b","log":"%b","seq":%d,"id":"%b","from":%b,"data":%b,"ts":%b}'
)
_NOBODYS = b'{"type":"message","room":"%b","seq":%d,"id":"%b","from":null,"data":%b,"ts":%b}'
_EPHEMERAL = b'{"type":"message","room":"%b","ephemeral":true,"from":%b,"data":%b,"ts":%b}'
_JOIN = b'{"type":"join","room":"%b","user":"%b","info":%b,"count":%d,"version":%d}'
_LEAVE = b'{"type":"leave","room":"%b","user":"%b","count":%d,"version":%d}'
_PING = text_frame(b'{"type":"ping"}')


class V1(Dialect):
    """Pushes of protocol v1. Replies are in `replies`."""

    __slots__ = ()

    def message(self, message: Message, skipped: int = 0) -> bytes:
        room, ts = message.room.encode(), timestamp(message.ts)
        if not message.seq:
            frame = _EPHEMERAL % (room, sender(message.sender), message.data, ts)
        elif message.opens_log:
            frame = _OPENING % (
                room,
                message.log.encode(),
                message.seq,
                message.id.encode(),
                sender(message.sender),
                message.data,
                ts,
            )
        elif message.sender is None:
            frame = _NOBODYS % (room, message.seq, message.id.encode(), message.data, ts)
        else:
            frame = _MESSAGE % (
                room,
                message.seq,
                message.id.encode(),
                message.sender.encode(),
                message.data,
                ts,
            )
        if skipped:
            frame = b'%b,"skipped":%d}' % (frame[:-1], skipped)
        return text_frame(frame)

    def presence_change(self, change: PresenceChange) -> bytes:
        room, user = change.room.encode(), change.user.encode()
        if change.kind is ChangeKind.JOIN:
            return text_frame(_JOIN % (room, user, change.info, change.count, change.version))
        return text_frame(_LEAVE % (room, user, change.count, change.version))

    def presence_summary(self, room: RoomId, snapshot: Snapshot) -> bytes:
        members = snapshot.members
        listing = b"" if members is None else b',"members":' + members_json(members)
        return text_frame(
            b'{"type":"presence","room":"%b","count":%d,"version":%d%b}'
            % (room.encode(), snapshot.count, snapshot.version, listing)
        )

    def resync(self, room: RoomId, replay: Replay) -> bytes:
        recovery, messages, position, more = replay
        standing = caught_up(position, recovery, listed(map(placed, messages)), more)
        return text_frame(b'{"type":"resync","room":"%b",%b}' % (room.encode(), standing))

    def removed(self, room: RoomId, code: str, reason: str) -> bytes:
        return text_frame(
            b'{"type":"removed","room":"%b","code":%b,"reason":%b}'
            % (room.encode(), quoted(code), quoted(reason))
        )

    def ping(self) -> bytes:
        return _PING

    def error(self, error: HubbubError, request: RequestId | None = None) -> bytes:
        return error_frame(error, request)

    def disconnect(self, disconnect: Disconnect) -> bytes:
        code, reason, after = disconnect
        return text_frame(
            b'{"type":"disconnect","code":%d,"reason":%b%b}'
            % (
                code,
                quoted(reason),
                b"" if after is None else b',"reconnect_after":' + number(after),
            )
        )
