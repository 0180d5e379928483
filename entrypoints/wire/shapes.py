"""What the doors send, for the AsyncAPI document. `replies`, `v1` and `tutorial` write it; tests
compare: every frame of PROTOCOL.md and of conversations has one of these shapes, and no field more.

A field that may be missing has the default UNSET.
"""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from domain.timeline import Outcome
from entrypoints.wire.inbound import RequestIdField, Seq

USER = r"^[A-Za-z0-9_.:@~-]{1,128}$"
ROOM = r"^(@[A-Za-z0-9_.:@~-]{1,128}|[A-Za-z0-9_.:~-][A-Za-z0-9_.:@~-]{0,127})$"

Room = Annotated[str, Meta(extra_json_schema={"pattern": ROOM})]
User = Annotated[str, Meta(extra_json_schema={"pattern": USER})]
Count = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=0)]


# Parts


class Placed(Struct, kw_only=True):
    """A message where the frame around it names the room. `from` is null where a backend spoke in
    nobody's name; `ts` is unix seconds."""

    seq: Seq
    id: str
    sender: User | None = field(name="from")
    data: Any
    ts: float


class Present(Struct):
    """`sessions` is 0 for a user whose connection was lost a moment ago."""

    user: User
    info: Any
    sessions: Count


class Position(Struct):
    log: str
    seq: Seq


class Recovery(Struct):
    """`first` is the oldest seq kept (gap); what lies above `valid_to` is withdrawn (rewound)."""

    outcome: Outcome
    first: Seq | UnsetType = UNSET
    valid_to: Seq | UnsetType = UNSET


# Replies at /v1/ws


class _Frame(Struct, tag_field="type", kw_only=True):
    pass


class _Reply(_Frame, kw_only=True):
    id: RequestIdField | UnsetType = UNSET


class Connected(_Frame, tag="connected", kw_only=True):
    """The first frame once it is known who this is. `expires_in` is missing where nothing does."""

    session_id: str
    user_id: User
    ping_interval: Seconds
    expires_in: Seconds | UnsetType = UNSET
    limits: dict[str, float]


class Refreshed(_Reply, tag="ack"):
    """A newer token was accepted."""

    expires_in: Seconds | UnsetType = UNSET


class Left(_Reply, tag="ack"):
    room: Room


class Published(_Reply, tag="ack"):
    """Where the message is. `duplicate`: it was there before, by the same key. `replicated`, where
    replicas are waited for: enough of them have it."""

    room: Room
    seq: Seq
    log: str
    message_id: str
    duplicate: bool
    replicated: bool | UnsetType = UNSET


class Whispered(_Reply, tag="ack"):
    """An ephemeral message went out; it has no place."""

    room: Room
    ephemeral: Literal[True]


class Joined(_Reply, tag="joined"):
    """`position` is that after `messages`; with `more` the rest follows as messages. `members` is
    null where they are not listed, `count` and `version` as well in a room without presence."""

    room: Room
    position: Position
    recovery: Recovery
    messages: list[Placed]
    more: bool
    members: list[Present] | None
    count: Count | None
    version: Count | None


class HistoryPage(_Reply, tag="history"):
    """`messages` ascend; `more`: there are further ones in the direction asked."""

    room: Room
    log: str
    messages: list[Placed]
    more: bool


class MembersPage(_Reply, tag="members"):
    """Null as in `joined`."""

    room: Room
    members: list[Present] | None
    count: Count | None
    version: Count | None
    more: bool


class Pong(_Reply, tag="pong"):
    pass


class Error(_Reply, tag="error"):
    """`retry`: the same frame may succeed, after `retry_after` seconds where that is given."""

    code: str
    message: str
    retry: bool
    retry_after: Seconds | UnsetType = UNSET


# Pushes at /v1/ws


class Message(_Frame, tag="message", kw_only=True):
    """`log` comes with the first message of a new one, `skipped` in conflating rooms."""

    room: Room
    log: str | UnsetType = UNSET
    seq: Seq
    id: str
    sender: User | None = field(name="from")
    data: Any
    ts: float
    skipped: Count | UnsetType = UNSET


class Ephemeral(_Frame, tag="message"):
    """Delivered now or never: it has no number and no id."""

    room: Room
    ephemeral: Literal[True]
    sender: User | None = field(name="from")
    data: Any
    ts: float


class Join(_Frame, tag="join"):
    room: Room
    user: User
    info: Any
    count: Count
    version: Count


class Leave(_Frame, tag="leave"):
    room: Room
    user: User
    count: Count
    version: Count


class Presence(_Frame, tag="presence"):
    """The number of users in a crowded room; with `members` it is crowded no longer."""

    room: Room
    count: Count
    version: Count
    members: list[Present] | UnsetType = UNSET


class Resync(_Frame, tag="resync"):
    """The numbering could not be continued; what to believe now."""

    room: Room
    position: Position
    recovery: Recovery
    messages: list[Placed]
    more: bool


class Removed(_Frame, tag="removed"):
    room: Room
    code: str
    reason: str


class Ping(_Frame, tag="ping"):
    pass


class Disconnect(_Frame, tag="disconnect"):
    """Just before a close, with the same code."""

    code: Annotated[int, Meta(ge=1000, le=4999)]
    reason: str
    reconnect_after: Seconds | UnsetType = UNSET


# The /ws... doors


class Echo(Struct):
    echo: Any
    ts: float


class LobbyJoin(_Frame, tag="join"):
    user: User
    count: Count


class LobbyLeave(_Frame, tag="leave"):
    user: User
    count: Count


class RoomJoin(_Frame, tag="join"):
    user: User


class RoomLeave(_Frame, tag="leave"):
    user: User


class LobbyMessage(_Frame, tag="message", kw_only=True):
    """`ephemeral` stands in the place of `seq`."""

    sender: User | None = field(name="from")
    data: Any
    seq: Seq | UnsetType = UNSET
    ephemeral: Literal[True] | UnsetType = UNSET
    ts: float
    skipped: Count | UnsetType = UNSET


class TextMessage(_Frame, tag="message", kw_only=True):
    """`data` is there where the message was not `{"text": T}`; `ephemeral` stands in the place of
    `seq`."""

    sender: User | None = field(name="from")
    text: Any
    data: Any | UnsetType = UNSET
    seq: Seq | UnsetType = UNSET
    ephemeral: Literal[True] | UnsetType = UNSET
    ts: float
    skipped: Count | UnsetType = UNSET


class LobbyResync(_Frame, tag="resync"):
    room: Room
    position: Position
    recovery: Recovery
    messages: list[LobbyMessage]
    more: bool


class TextResync(_Frame, tag="resync"):
    room: Room
    position: Position
    recovery: Recovery
    messages: list[TextMessage]
    more: bool


class Welcome(_Frame, tag="connected"):
    """The token was good."""

    user_id: User


class Received(_Frame, tag="ack"):
    received: Any
