"""Answers of the HTTP API as JSON, spliced rather than serialised: `data` and `info` are passed on
as they are. `shapes` describes them."""

from collections.abc import Sequence

from msgspec.json import Encoder

from application.list_members import MemberPage
from application.list_rooms import RoomPage
from application.ports.broadcasting import Published
from domain.identifiers import RoomId
from domain.options import RoomOptions
from domain.timeline import Page
from entrypoints.wire.fragments import (
    boolean,
    history_fields,
    listed,
    presence_fields,
    published_fields,
)

_encode = Encoder().encode
_OPTIONS = (
    "history_size",
    "history_ttl",
    "presence",
    "presence_limit",
    "publish",
    "max_members",
    "rate",
    "conflate",
)


def published(room: RoomId, receipt: Published) -> bytes:
    return b"{%b}" % published_fields(room, receipt)


def history(room: RoomId, page: Page) -> bytes:
    return b"{%b}" % history_fields(room, page)


def members(page: MemberPage) -> bytes:
    return b'{"room":"%b",%b,"more":%b}' % (
        page.room.encode(),
        presence_fields(page.members, page.count, page.version),
        boolean(page.more),
    )


def rooms(page: RoomPage) -> bytes:
    found = listed(
        b'{"room":"%b","count":%b}' % (room.encode(), _encode(users)) for room, users in page.rooms
    )
    return b'{"rooms":%b,"more":%b}' % (found, boolean(page.more))


def options(room: RoomId, in_force: RoomOptions) -> bytes:
    told = {name: getattr(in_force, name) for name in _OPTIONS}
    return b'{"room":"%b","options":%b}' % (room.encode(), _encode(told))


def ordered(kind: str) -> bytes:
    return b'{"ordered":"%b"}' % kind.encode()


def results(each: Sequence[bytes]) -> bytes:
    """One for each operation or room, in their order: its answer or its error."""
    return b'{"results":%b}' % listed(each)
