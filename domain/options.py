"""What an operator may say about rooms, by pattern of their names."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple

from domain.identifiers import RoomId
from domain.patterns import RoomPatterns

MAX_HISTORY = 10_000  # messages of one room
MAX_LISTED = 500  # users that fit into one frame, whatever their info


class Retention(NamedTuple):
    """What a room's log keeps: the newest `size` messages, until `ttl` seconds after the last."""

    size: int
    ttl: float


class PresenceMode(StrEnum):
    """LIST tells who is there, COUNT only how many, OFF nothing."""

    LIST = "list"
    COUNT = "count"
    OFF = "off"


class PublishPolicy(StrEnum):
    """Who may publish: whoever has the grant; of those, only members; nobody but a backend."""

    GRANTED = "granted"
    MEMBERS = "members"
    BACKEND = "backend"


@dataclass(frozen=True, slots=True)
class RoomOptions:
    """Options of a room. `history_ttl` is in seconds, `rate` in messages a second over the whole
    room on one node. Raises ValueError for values that make no sense."""

    history_size: int = 100
    history_ttl: float = 600.0
    presence: PresenceMode = PresenceMode.LIST
    presence_limit: int = 200
    publish: PublishPolicy = PublishPolicy.GRANTED
    max_members: int | None = None
    rate: float | None = None
    conflate: bool = False
    keep: Retention = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _require(
            0 <= self.history_size <= MAX_HISTORY,
            "history_size",
            f"0 to {MAX_HISTORY} messages",
            self.history_size,
        )
        _require(
            self.history_ttl > 0 and math.isfinite(self.history_ttl),
            "history_ttl",
            "above 0 seconds",
            self.history_ttl,
        )
        _require(
            0 <= self.presence_limit <= MAX_LISTED,
            "presence_limit",
            f"0 to {MAX_LISTED} users",
            self.presence_limit,
        )
        if self.max_members is not None:
            _require(self.max_members >= 1, "max_members", "1 or more users", self.max_members)
            if self.presence is PresenceMode.OFF:
                raise ValueError("max_members counts users, so presence cannot be off with it")
        if self.rate is not None:
            _require(
                self.rate > 0 and math.isfinite(self.rate),
                "rate",
                "above 0 messages a second, or left out for no limit",
                self.rate,
            )
        object.__setattr__(self, "keep", Retention(self.history_size, self.history_ttl))


class RoomCatalog:
    """Options by pattern. The first rule that matches decides alone; rules are not merged."""

    __slots__ = ("_default", "_default_personal", "_rules")

    def __init__(self, rules: Sequence[tuple[str, RoomOptions]] = ()) -> None:
        """Raises ValueError for a malformed pattern."""
        self._rules = [
            (RoomPatterns([pattern]), options, _personal(options)) for pattern, options in rules
        ]
        self._default = RoomOptions()
        self._default_personal = _personal(self._default)

    def of(self, room: RoomId) -> RoomOptions:
        """The options of a room, the same object each time. Personal rooms have no presence."""
        personal = room[0] == "@"
        for patterns, options, personal_options in self._rules:
            if patterns.match(room):
                return personal_options if personal else options
        return self._default_personal if personal else self._default


def _personal(options: RoomOptions) -> RoomOptions:
    return replace(options, presence=PresenceMode.OFF, max_members=None)


def _require(holds: bool, name: str, wanted: str, value: float) -> None:
    if not holds:
        raise ValueError(f"{name} must be {wanted}, not {value}")
