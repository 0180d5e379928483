"""What the API answers, for the OpenAPI document; `answers` writes it, and a test compares."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from domain.options import PresenceMode, PublishPolicy
from entrypoints.http.api.asks import reference
from entrypoints.wire.inbound import Seq
from entrypoints.wire.shapes import Count, Room, User


def any_of(*shapes: type[Struct]) -> Meta:
    """One of these."""
    return Meta(extra_json_schema={"anyOf": [reference(shape) for shape in shapes]})


class Error(Struct):
    """`retry`: the same request may succeed, after `retry_after` seconds where that is given."""

    code: str
    message: str
    retry: bool
    retry_after: float | UnsetType = UNSET


class Refused(Struct):
    error: Error


class Published(Struct):
    """Where the message is. `duplicate`: it was there before, by the same key. `replicated`, where
    replicas are asked for: whether they have it."""

    room: Room
    seq: Seq
    log: str
    message_id: str
    duplicate: bool
    replicated: bool | UnsetType = UNSET


class Sent(Struct):
    """An ephemeral message went out; it has no place."""

    room: Room
    ephemeral: Literal[True]


class Message(Struct, kw_only=True):
    """`from` is null where a backend spoke in nobody's name; `ts` is unix seconds."""

    seq: Seq
    id: str
    sender: User | None = field(name="from")
    data: Any
    ts: float


class HistoryPage(Struct):
    """`messages` ascend; `more`: there are further ones in the direction asked."""

    room: Room
    log: str
    messages: list[Message]
    more: bool


class Member(Struct):
    """`sessions` is 0 for a user whose connection was lost a moment ago."""

    user: User
    info: Any
    sessions: Count


class MembersPage(Struct):
    """`members` is null where they are not listed, `count` and `version` as well in a room
    without presence."""

    room: Room
    members: list[Member] | None
    count: Count | None
    version: Count | None
    more: bool


class RoomEntry(Struct):
    room: Room
    count: Count | None


class RoomsPage(Struct):
    rooms: list[RoomEntry]
    more: bool


class Options(Struct):
    """Sizes are messages and users, times seconds, `rate` messages a second."""

    history_size: Count
    history_ttl: float
    presence: PresenceMode
    presence_limit: Count
    publish: PublishPolicy
    max_members: Count | None
    rate: float | None
    conflate: bool


class RoomOptions(Struct):
    room: Room
    options: Options


class Session(Struct):
    """`waiting` is bytes that the client has not taken, `rooms` how many it is in, `age` seconds,
    `door` the path it came in by; `address` is null where the server does not know it."""

    session_id: str
    user: User
    door: str
    address: str | None
    rooms: Count
    waiting: Count
    age: float
    node: str


class SessionsPage(Struct):
    """`count` is how many there are, `node` the one that answers."""

    node: str
    count: Count
    sessions: list[Session]


class Ordered(Struct):
    """The order is on record; every node carries it out within a second."""

    ordered: Literal[
        "enter", "kick", "send_away", "block", "unblock", "revoke_token", "revoke_tokens"
    ]


class BroadcastResults(Struct):
    """One for each room, in their order: what publishing to it answers, or an error."""

    results: list[Annotated[dict[str, Any], any_of(Published, Sent, Refused)]]


class BatchResults(Struct):
    """One for each operation, in their order: what its own route answers, or an error."""

    results: list[
        Annotated[
            dict[str, Any],
            any_of(Published, Sent, HistoryPage, MembersPage, RoomOptions, Ordered, Refused),
        ]
    ]
