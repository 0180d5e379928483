"""A message before and after it is numbered.

Both are tuples because they are made once per published message on the hot path: a frozen
dataclass costs four times as much to build.
"""

from typing import NamedTuple

from domain.identifiers import RoomId, SessionId, UserId


class Draft(NamedTuple):
    """What somebody wants to say in a room.

    `data` is canonical JSON; it is decoded and encoded once at the door and only spliced after.
    `key` makes the publish happen once within the scope of (room, `principal`).
    `skip` is the session that asked not to hear its own message (echo: false).
    """

    room: RoomId
    sender: UserId | None
    data: bytes
    key: str | None = None
    principal: str = ""
    ephemeral: bool = False
    skip: SessionId | None = None


class Message(NamedTuple):
    """A draft the broker accepted.

    `seq` is its place in the room's log, counted from 1; an ephemeral message has no place
    (seq 0) and no id. `ts` is unix seconds. `log` names the log that `seq` counts in, and
    `opens_log` is true for the first message after that name changed.
    """

    room: RoomId
    seq: int
    id: str
    sender: UserId | None
    data: bytes
    ts: float
    log: str
    opens_log: bool = False
    skip: SessionId | None = None
