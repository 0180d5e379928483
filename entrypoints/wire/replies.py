"""Protocol v1: the one reply to each client frame, as complete server frames.

Errors are the dialect's business (`V1.error`): a use case that fails does not know who asked.
`request` is the `id` of the frame answered; None leaves the field out.
"""

from collections.abc import Mapping

from msgspec.json import Encoder

from application.framing import text_frame
from application.ports.broadcasting import Published
from application.ports.encoding import RequestId
from domain.identifiers import RoomId, SessionId, UserId
from domain.member import Member, Snapshot
from domain.message import Message
from domain.position import Position
from domain.timeline import Page, Recovery
from entrypoints.wire.fragments import (
    boolean,
    caught_up,
    history_fields,
    listed,
    number,
    placed,
    presence_fields,
    published_fields,
    reply_to,
)

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
        presence = presence_fields(None, None, None)
    else:
        presence = presence_fields(snapshot.members, snapshot.count, snapshot.version)
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
    return text_frame(b'{"type":"ack"%b,%b}' % (reply_to(request), published_fields(room, receipt)))


def history(request: RequestId | None, room: RoomId, page: Page) -> bytes:
    return text_frame(b'{"type":"history"%b,%b}' % (reply_to(request), history_fields(room, page)))


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
            presence_fields(listing, count, version),
            boolean(more),
        )
    )


def pong(request: RequestId | None) -> bytes:
    return text_frame(b'{"type":"pong"%b}' % reply_to(request))


def _expiry(expires_in: float | None) -> bytes:
    return b"" if expires_in is None else b',"expires_in":' + number(expires_in)
