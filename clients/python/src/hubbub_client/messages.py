"""Positions, messages, and what else a room tells."""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Frame: TypeAlias = dict[str, Any]
"""One frame of the protocol, decoded."""


@dataclass(frozen=True, slots=True, eq=False)
class Position:
    """A place in a room's log. Store it, compare it for equality, hand it back to `join`.

    `log` is opaque; `seq` counts from 1 within it.
    """

    log: str
    seq: int

    @classmethod
    def of(cls, frame: Frame) -> "Position":
        return cls(frame["log"], frame["seq"])

    def frame(self) -> Frame:
        return {"log": self.log, "seq": self.seq}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Position):
            return NotImplemented
        return (self.log, self.seq) == (other.log, other.seq)

    def __hash__(self) -> int:
        return hash((self.log, self.seq))


@dataclass(frozen=True, slots=True, eq=False)
class Published(Position):
    """The place a message of yours has got. `duplicate`: it had it already, from an earlier try
    with the same key."""

    message_id: str
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Message:
    """`sender` is None when a backend published in nobody's name; `ts` is unix seconds.

    An ephemeral message has neither `position` nor `id`. `skipped`: so many messages before this
    one are left out, in a conflating room.
    """

    room: str
    data: Any
    sender: str | None
    ts: float
    id: str | None = None
    position: Position | None = None
    skipped: int = 0

    @property
    def seq(self) -> int | None:
        return None if self.position is None else self.position.seq

    @property
    def ephemeral(self) -> bool:
        return self.position is None

    @classmethod
    def of(cls, room: str, frame: Frame, log: str | None) -> "Message":
        """`log` is that of the messages before it; None for an ephemeral one."""
        position = None if log is None else Position(frame.get("log") or log, frame["seq"])
        return cls(
            room=room,
            data=frame["data"],
            sender=frame["from"],
            ts=frame["ts"],
            id=frame.get("id"),
            position=position,
            skipped=frame.get("skipped") or 0,
        )


@dataclass(frozen=True, slots=True)
class Page:
    """Older messages, ascending. `more`: there are further ones in the direction asked.

    `log` is that of the room now: with another one than you asked for, the page is empty, and
    your seqs are of no use any more.
    """

    messages: list[Message]
    more: bool
    log: str

    @classmethod
    def of(cls, frame: Frame) -> "Page":
        room, log = frame["room"], frame["log"]
        return cls([Message.of(room, m, log) for m in frame["messages"]], frame["more"], log)


@dataclass(frozen=True, slots=True)
class Member:
    """Somebody in a room. `info` is from the user's token. `sessions` is as of the last list: it
    is not kept current; 0 is somebody whose connection was lost a moment ago."""

    user: str
    info: Any = None
    sessions: int = 1


@dataclass(frozen=True, slots=True)
class Joined:
    """A user came in."""

    user: str
    info: Any


@dataclass(frozen=True, slots=True)
class Left:
    """A user is gone from all of its sessions."""

    user: str


@dataclass(frozen=True, slots=True)
class Recovered:
    """Back after a lost connection, and nothing is missing. `count` messages follow at once; there
    may be more behind them."""

    count: int


@dataclass(frozen=True, slots=True)
class Gap:
    """What comes next does not continue what came before.

    `gap`: everything before seq `first` that you have not got is lost. `rewound`: withdraw every
    message above seq `valid_to`, other ones take their place. `reset`: the log is another one,
    and seqs start afresh.
    """

    outcome: Literal["gap", "rewound", "reset"]
    first: int | None = None
    valid_to: int | None = None


@dataclass(frozen=True, slots=True)
class Removed:
    """You are not in the room any more, and the client does not go back by itself. `code` is
    `kicked`, or why you may not be in it."""

    code: str
    reason: str


Event = Message | Joined | Left | Recovered | Gap | Removed
"""What `Room.events` yields, in the order in which it happened."""
