"""Everything hubbub can refuse or fail to do, as one tree.

Callers act on the class or on its `code`, never on the text.

    HubbubError
    ├── Refusal                 the caller must change something first
    │   ├── BadFrame            bad_frame: not JSON we accept, or not a frame we know
    │   ├── BadName             bad_name: a room or user name outside the allowed characters
    │   ├── MessageTooLarge     message_too_large
    │   ├── NotGranted          not_granted: no grant for this action on this room
    │   ├── NotJoined           not_joined: only members may, or nothing to leave
    │   ├── UnknownRoom         unknown_room
    │   ├── RoomFull            room_full
    │   ├── TooManyRooms        too_many_rooms: this connection is in as many rooms as it may be
    │   ├── RateLimited         rate_limited: come back after `retry_after` seconds
    │   ├── KeyConflict         key_conflict: the key was used for other data
    │   └── Forbidden           forbidden: not with this identity
    ├── Unauthenticated         no session is made
    │   ├── TokenMissing        token_missing
    │   ├── TokenInvalid        token_invalid
    │   ├── TokenExpired        token_expired
    │   └── TokenRevoked        token_revoked
    └── Failure                 nobody's fault; the same call may succeed later
        ├── Unavailable         unavailable: it was not done
        ├── OverCapacity        over_capacity: as many connections, or rooms, as there may be
        ├── OutcomeUnknown      unknown: it may or may not have been done; retry with the same key
        └── Internal            internal: a bug on our side
"""

from typing import ClassVar


class HubbubError(Exception):
    """Root of the tree. `retry` tells whether the same call may succeed unchanged."""

    code: ClassVar[str]
    retry: ClassVar[bool] = False

    def __init__(self, message: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after


class Refusal(HubbubError):
    """The caller must change something before it asks again."""


class BadFrame(Refusal):
    code = "bad_frame"


class BadName(Refusal):
    code = "bad_name"


class MessageTooLarge(Refusal):
    code = "message_too_large"


class NotGranted(Refusal):
    code = "not_granted"


class NotJoined(Refusal):
    code = "not_joined"


class UnknownRoom(Refusal):
    code = "unknown_room"


class RoomFull(Refusal):
    code = "room_full"


class TooManyRooms(Refusal):
    code = "too_many_rooms"


class RateLimited(Refusal):
    code = "rate_limited"
    retry = True


class KeyConflict(Refusal):
    code = "key_conflict"


class Forbidden(Refusal):
    code = "forbidden"


class Unauthenticated(HubbubError):
    """The credential does not open a session."""


class TokenMissing(Unauthenticated):
    code = "token_missing"


class TokenInvalid(Unauthenticated):
    code = "token_invalid"


class TokenExpired(Unauthenticated):
    code = "token_expired"


class TokenRevoked(Unauthenticated):
    code = "token_revoked"


class Failure(HubbubError):
    """Not the caller's fault."""

    retry = True


class Unavailable(Failure):
    code = "unavailable"


class OverCapacity(Failure):
    code = "over_capacity"


class OutcomeUnknown(Failure):
    code = "unknown"


class Internal(Failure):
    code = "internal"
