"""The only table from errors to HTTP status and close code."""

from typing import NamedTuple

from application.disconnects import (
    BAD_REQUEST,
    FORBIDDEN,
    INTERNAL,
    OVER_CAPACITY,
    POLICY,
    RATE_LIMITED,
    UNAUTHORIZED,
    Disconnect,
    fitting,
)
from domain import errors
from domain.errors import HubbubError


class Wire(NamedTuple):
    """`status` answers an HTTP request. `close` ends a WebSocket that cannot be let in because of
    this error; None for errors that only ever answer a frame. A connection that is in stays."""

    status: int
    close: Disconnect | None


_TABLE: dict[type[HubbubError], tuple[int, Disconnect | None]] = {
    errors.BadFrame: (400, None),
    errors.BadName: (400, BAD_REQUEST),
    errors.MessageTooLarge: (413, None),
    errors.NotGranted: (403, FORBIDDEN),
    errors.NotJoined: (409, None),
    errors.UnknownRoom: (404, None),
    errors.RoomFull: (409, POLICY),
    errors.TooManyRooms: (400, POLICY),
    errors.RateLimited: (429, RATE_LIMITED),
    errors.KeyConflict: (409, None),
    errors.Forbidden: (403, FORBIDDEN),
    errors.TokenMissing: (401, UNAUTHORIZED),
    errors.TokenInvalid: (401, UNAUTHORIZED),
    errors.TokenExpired: (401, UNAUTHORIZED),
    errors.TokenRevoked: (401, UNAUTHORIZED),
    errors.Unavailable: (503, OVER_CAPACITY),
    errors.OverCapacity: (503, OVER_CAPACITY),
    errors.OutcomeUnknown: (504, None),
    errors.Internal: (500, INTERNAL),
}


def wire_of(error: HubbubError) -> Wire:
    """How an error leaves the house. The close reason begins with the error's code."""
    status, close = _TABLE[type(error)]
    if close is None:
        return Wire(status, None)
    return Wire(status, Disconnect(close.code, _reason(error), error.retry_after))


def _reason(error: HubbubError) -> str:
    text = f"{error.code}: {error.message}" if error.message else error.code
    return fitting(text)
