"""Who somebody is, and what they may do in which rooms."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from domain.errors import Forbidden
from domain.identifiers import RoomId, UserId, owner, personal_room, user_id
from domain.patterns import RoomPatterns


class Action(StrEnum):
    """MANAGE is acting on others: removing members, clearing a log."""

    JOIN = "join"
    PUBLISH = "publish"
    HISTORY = "history"
    MEMBERS = "members"
    MANAGE = "manage"


# No rooms have these names, so that only a pattern for all others matches the one, and one for all
# personal rooms the other.
_ANY_SHARED, _EVERYBODYS = RoomId("*"), RoomId("@*")

# What touches a personal room from inside: its owner may, nobody else may, no grant changes that.
_OWNERS_ONLY = frozenset({Action.JOIN, Action.HISTORY, Action.MEMBERS})


def _listed(pattern: str, actions: Iterable[Action | str]) -> Iterable[Action | str]:
    # A string is an iterable of strings: "join" would be read as four unknown actions.
    if isinstance(actions, str) or not isinstance(actions, Iterable):
        raise ValueError(f"the grant for {pattern!r} must be a list of actions, not {actions!r}")
    return actions


def _action(pattern: str, text: Action | str) -> Action:
    try:
        return Action(text)
    except ValueError:
        known = ", ".join(Action)
        raise ValueError(
            f"the grant for {pattern!r} has the unknown action {text!r}; known are {known}"
        ) from None


class Grants:
    """Actions by pattern of room names. Immutable; equal when built from the same rules."""

    __slots__ = ("_patterns", "_rules")

    def __init__(self, rules: Mapping[str, Iterable[Action | str]]) -> None:
        """Raises ValueError for a malformed pattern or an unknown action."""
        self._rules = frozenset(
            (_action(pattern, action), pattern)
            for pattern, actions in rules.items()
            for action in _listed(pattern, actions)
        )
        # Also patterns without actions are checked: a typo in them is still a typo.
        RoomPatterns(rules)
        self._patterns = {
            action: RoomPatterns(pattern for granted, pattern in self._rules if granted is action)
            for action in {granted for granted, _ in self._rules}
        }

    def allows(self, action: Action, room: RoomId) -> bool:
        """Whether a rule grants this action on this room."""
        patterns = self._patterns.get(action)
        return patterns is not None and patterns.match(room)

    def allows_everywhere(self, action: Action) -> bool:
        """Whether rules grant this action on all rooms, personal ones among them."""
        return self.allows(action, _ANY_SHARED) and self.allows(action, _EVERYBODYS)

    def beginnings(self, action: Action) -> frozenset[str]:
        """Every room with this action granted begins with one of these."""
        patterns = self._patterns.get(action)
        return frozenset() if patterns is None else patterns.beginnings

    def reaches(self, room: RoomId) -> bool:
        """Whether a rule grants anything at all on this room."""
        return any(patterns.match(room) for patterns in self._patterns.values())

    def __eq__(self, other: object) -> bool:
        return self._rules == other._rules if isinstance(other, Grants) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._rules)

    def __repr__(self) -> str:
        rules: dict[str, list[str]] = {}
        for action, pattern in sorted(self._rules):
            rules.setdefault(pattern, []).append(action.value)
        return f"Grants({rules})"


_DEFAULT_RULES = {"*": (Action.JOIN, Action.PUBLISH, Action.HISTORY, Action.MEMBERS)}

DEFAULT_GRANTS = Grants(_DEFAULT_RULES)
OPEN_GRANTS = Grants({**_DEFAULT_RULES, "@*": (Action.PUBLISH,)})
ALL_GRANTS = Grants({"*": tuple(Action), "@*": tuple(Action)})


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody who has been let in.

    `info` is canonical JSON shown to others; `expires_at` and `issued_at` are unix seconds, None
    when the credential does not say; `token_id` is what the credential can be revoked by.
    """

    is_backend: ClassVar[bool] = False

    user: UserId
    grants: Grants
    info: bytes = b"null"
    expires_at: float | None = None
    token_id: str | None = None
    issued_at: float | None = None

    @property
    def principal(self) -> str:
        """The scope of this user's publish keys."""
        return f"user:{self.user}"

    def may(self, action: Action, room: RoomId) -> bool:
        """Whether they may do this in this room.

        A personal room is joined, read and listed by its owner without a grant and by nobody else
        with one; publishing to it and managing it takes a grant whose pattern begins with `@`.
        """
        user = owner(room)
        if user is not None and action in _OWNERS_ONLY:
            return user == self.user
        return self.grants.allows(action, room)

    def manages(self, user: UserId | None) -> bool:
        """As Backend.manages."""
        return _manages(self.grants, user)

    def speaker(self, name: str | None) -> UserId:
        """In whose name a message goes out. Raises Forbidden for another's than their own."""
        if name is not None and name != self.user:
            raise Forbidden("a token publishes in the name of its own user only")
        return self.user


@dataclass(frozen=True, slots=True)
class Backend:
    """A program that showed an API key; `name` is the key's."""

    is_backend: ClassVar[bool] = True

    name: str
    grants: Grants

    @property
    def principal(self) -> str:
        """The scope of its publish keys. No user's: those begin otherwise."""
        return f"key:{self.name}"

    def may(self, action: Action, room: RoomId) -> bool:
        """As Identity.may; no personal room is a backend's own."""
        if owner(room) is not None and action in _OWNERS_ONLY:
            return False
        return self.grants.allows(action, room)

    def manages(self, user: UserId | None) -> bool:
        """Whether it may end what a user has everywhere, which takes the grant to manage the
        personal room of that user. None: of any user."""
        return _manages(self.grants, user)

    def speaker(self, name: str | None) -> UserId | None:
        """In whose name a message goes out: anybody's, or nobody's. Raises BadName."""
        return None if name is None else user_id(name)


Caller = Identity | Backend


def _manages(grants: Grants, user: UserId | None) -> bool:
    room = _EVERYBODYS if user is None else personal_room(user)
    return grants.allows(Action.MANAGE, room)
