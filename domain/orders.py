"""What an operator or a backend can have done to users, on every node."""

from dataclasses import dataclass
from typing import ClassVar

from domain.identifiers import RoomId, UserId


@dataclass(frozen=True, slots=True)
class Kick:
    """Take a user's sessions out of a room. They may join again if their grants let them."""

    kind: ClassVar[str] = "kick"
    room: RoomId
    user: UserId
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Enter:
    """Put the sessions a user has now into a room, whatever their grants. At doors into one room
    only, nothing happens."""

    kind: ClassVar[str] = "enter"
    room: RoomId
    user: UserId


@dataclass(frozen=True, slots=True)
class SendAway:
    """End a user's sessions. The user may come back; see Block."""

    kind: ClassVar[str] = "send_away"
    user: UserId
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RevokeToken:
    """End what was opened with one token, and let nobody in with it. `expires_at` is the token's,
    unix seconds; until then it has to be remembered."""

    kind: ClassVar[str] = "revoke_token"
    token_id: str
    expires_at: float


@dataclass(frozen=True, slots=True)
class RevokeTokens:
    """The same for all tokens of a user issued before a moment (unix seconds), and for those that
    do not say when they were."""

    kind: ClassVar[str] = "revoke_tokens"
    user: UserId
    issued_before: float


@dataclass(frozen=True, slots=True)
class Block:
    """End a user's sessions and let the user in again only after `until` (unix seconds)."""

    kind: ClassVar[str] = "block"
    user: UserId
    until: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Unblock:
    """Let a blocked user in again."""

    kind: ClassVar[str] = "unblock"
    user: UserId


Order = Kick | Enter | SendAway | RevokeToken | RevokeTokens | Block | Unblock
