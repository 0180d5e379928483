"""Protocol v1: the one reply to each client frame, as complete server frames.

Errors are the dialect's business (`V1.error`): a use case that fails does not know who asked.
`request` is the `id` of the frame answered; None leaves the field out.
"""

from collections.abc import Mapping, Sequence

from msgspec.json import Encoder

from application.framing import text_frame
from application.ports.broadcasting import Published
from application.ports.encoding import RequestId
from domain.identifiers import RoomId, SessionId, UserId
from domain.member import Member, Snapshot
from domain.message import Message
from domain.position import Position
from domain.timeline import Page, Recovery
from entrypoints.wire.fragments import boolean, caught_up, listed, number, placed, reply_to
from entrypoints.wire.v1 import members_json

_encode = Encoder().encode


def connected(
    session: SessionId,
    user: UserId,
    ping_interval: float,
    expires_in: float | None,
    limits: Mapping[str, float],
) -> bytes:
    """The first frame of an authenticated connection. It answers nothing, so it has no id."""
    return text_frame(
        b'{"type":"connected","session_id":"%b","user_id":"%b","ping_interval":%b%b,"limits":%b}'
        % (
            session.encode(),
            user.encode(),
            number(ping_interval),
            _expiry(expires_in),
            _encode(limits),
        )
    )


def authenticated(request: RequestId | None, expires_in: float | None) -> bytes:
    """A later `auth` was accepted."""
    return text_frame(b'{"type":"ack"%b%b}' % (reply_to(request), _expiry(expires_in)))


def joined(
    request: RequestId | None,
    room: RoomId,
    position: Position,
    recovery: Recovery,
    messages: list[Message],
    more: bool,
    snapshot: Snapshot | None,
) -> bytes:
    """`snapshot` is None in a room without presence."""
    if snapshot is None:
        presence = _presence(None, None, None)
    else:
        presence = _presence(snapshot.members, snapshot.count, snapshot.version)
    return text_frame(
        b'{"type":"joined"%b,"room":"%b",%b,%b}'
        % (
            reply_to(request),
            room.encode(),
            caught_up(position, recovery, listed(map(placed, messages)), more),
            presence,
        )
    )


def left(request: RequestId | None, room: RoomId) -> bytes:
    return text_frame(b'{"type":"ack"%b,"room":"%b"}' % (reply_to(request), room.encode()))


def published(request: RequestId | None, room: RoomId, receipt: Published) -> bytes:
    """An ephemeral message has no place, so its ack only says that it went out."""
    position, message_id, duplicate = receipt
    if position is None:
        return text_frame(
            b'{"type":"ack"%b,"room":"%b","ephemeral":true}' % (reply_to(request), room.encode())
        )
    return text_frame(
        b'{"type":"ack"%b,"room":"%b","seq":%d,"log":"%b","message_id":"%b","duplicate":%b}'
        % (
            reply_to(request),
            room.encode(),
            position.seq,
            position.log.encode(),
            message_id.encode(),
            boolean(duplicate),
        )
    )


def history(request: RequestId | None, room: RoomId, page: Page) -> bytes:
    log, messages, more = page
    return text_frame(
        b'{"type":"history"%b,"room":"%b","log":"%b","messages":%b,"more":%b}'
        % (
            reply_to(request),
            room.encode(),
            log.encode(),
            listed(map(placed, messages)),
            boolean(more),
        )
    )


def members(
    request: RequestId | None,
    room: RoomId,
    listing: list[Member] | None,
    count: int | None,
    version: int | None,
    more: bool,
) -> bytes:
    """`listing` is None where members are not listed, `count` and `version` as well in a room
    without presence."""
    return text_frame(
        b'{"type":"members"%b,"room":"%b",%b,"more":%b}'
        % (
            reply_to(request),
            room.encode(),
            _presence(listing, count, version),
            boolean(more),
        )
    )


def pong(request: RequestId | None) -> bytes:
    return text_frame(b'{"type":"pong"%b}' % reply_to(request))


def _presence(listing: Sequence[Member] | None, count: int | None, version: int | None) -> bytes:
    return b'"members":%b,"count":%b,"version":%b' % (
        members_json(listing),
        _encode(count),
        _encode(version),
    )


def _expiry(expires_in: float | None) -> bytes:
    return b"" if expires_in is None else b',"expires_in":' + number(expires_in)
