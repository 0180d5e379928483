"""Pieces of JSON that frames of several dialects and replies have in common.

Frames are spliced, not serialised: names, message ids and logs hold no character that JSON would
escape (domain.identifiers allows none, we make the others), and `data` and `info` are canonical
JSON already. Everything else goes through `quoted`.
"""

from collections.abc import Iterable, Sequence
from math import ceil

from msgspec.json import Encoder

from application.framing import text_frame
from application.ports.broadcasting import Published
from application.ports.encoding import RequestId
from domain.errors import HubbubError
from domain.identifiers import RoomId, UserId
from domain.member import Member
from domain.message import Message
from domain.position import Position
from domain.timeline import Page, Recovery

_encode = Encoder().encode
_TRUTH = ("false", "true")  # for text, as `boolean` is for bytes


def quoted(text: str) -> bytes:
    """Any text as a JSON string."""
    return _encode(text)


def number(value: float) -> bytes:
    """A duration in seconds, or any other number."""
    return _encode(value)


def boolean(value: bool) -> bytes:
    return b"true" if value else b"false"


def timestamp(ts: float) -> bytes:
    """Unix seconds with at most six decimals."""
    # The double next to a whole number of microseconds prints as that number: shorter than `%.6f`
    # for most, and a third of its time.
    return _encode(int(ts * 1e6 + 0.5) / 1e6)


def reply_to(request: RequestId | None) -> bytes:
    """The field `id`, with the comma before it, or nothing."""
    return b"" if request is None else b',"id":' + _encode(request)


def sender(user: UserId | None) -> bytes:
    """The value of `from`: null where a backend has spoken in nobody's name."""
    return b"null" if user is None else b'"%b"' % user.encode()


def listed(items: Iterable[bytes]) -> bytes:
    return b"[%b]" % b",".join(items)


def placed(message: Message) -> bytes:
    """A numbered message where the frame around it names the room."""
    return b'{"seq":%d,"id":"%b","from":%b,"data":%b,"ts":%b}' % (
        message.seq,
        message.id.encode(),
        sender(message.sender),
        message.data,
        timestamp(message.ts),
    )


def place(at: Position) -> bytes:
    return b'{"log":"%b","seq":%d}' % (at.log.encode(), at.seq)


def verdict(recovery: Recovery) -> bytes:
    first, valid_to = recovery.first, recovery.valid_to
    return b'{"outcome":"%b"%b%b}' % (
        recovery.outcome.encode(),
        b"" if first is None else b',"first":%d' % first,
        b"" if valid_to is None else b',"valid_to":%d' % valid_to,
    )


def caught_up(position: Position, recovery: Recovery, messages: bytes, more: bool) -> bytes:
    """The fields that tell a reader where it stands now. `messages` is a JSON array."""
    return b'"position":%b,"recovery":%b,"messages":%b,"more":%b' % (
        place(position),
        verdict(recovery),
        messages,
        boolean(more),
    )


def error_fields(error: HubbubError) -> bytes:
    """What is told of an error, at every door and by the HTTP API."""
    after = error.retry_after
    return b'"code":"%b","message":%b,"retry":%b%b' % (
        error.code.encode(),
        quoted(error.message),
        boolean(error.retry),
        # Rounded up: a client that comes back early is refused again.
        b"" if after is None else b',"retry_after":' + number(ceil(after * 1e3) / 1e3),
    )


def error_frame(error: HubbubError, request: RequestId | None) -> bytes:
    """The one shape of an error, at every door."""
    return text_frame(b'{"type":"error"%b,%b}' % (reply_to(request), error_fields(error)))


def published_fields(room: RoomId, receipt: Published) -> bytes:
    """Where a message went; an ephemeral one has no place."""
    position, message_id, duplicate, replicated = receipt
    if position is None:
        return b'"room":"%b","ephemeral":true' % room.encode()
    # Text first: half the time of splicing bytes.
    copies = "" if replicated is None else f',"replicated":{_TRUTH[replicated]}'
    return (
        f'"room":"{room}","seq":{position.seq},"log":"{position.log}","message_id":"{message_id}",'
        f'"duplicate":{_TRUTH[duplicate]}{copies}'
    ).encode()


def history_fields(room: RoomId, page: Page) -> bytes:
    log, messages, more = page
    return b'"room":"%b","log":"%b","messages":%b,"more":%b' % (
        room.encode(),
        log.encode(),
        listed(map(placed, messages)),
        boolean(more),
    )


def members_json(members: Sequence[Member] | None) -> bytes:
    """A JSON array, or null where members are not listed."""
    if members is None:
        return b"null"
    return listed(
        b'{"user":"%b","info":%b,"sessions":%d}' % (user.encode(), info, sessions)
        for user, info, sessions in members
    )


def presence_fields(
    listing: Sequence[Member] | None, count: int | None, version: int | None
) -> bytes:
    return b'"members":%b,"count":%b,"version":%b' % (
        members_json(listing),
        _encode(count),
        _encode(version),
    )
