"""Why the server ends a connection, and what the client should do about it.

The range of the code is the verdict, so that clients need no table:
4000-4099 do not come back, 4100-4199 come back with backoff, 4200-4299 come back at once.
"""

from typing import NamedTuple


class Disconnect(NamedTuple):
    """`reason` is for people and fits a close frame (at most 123 bytes of UTF-8).
    `reconnect_after` is seconds."""

    code: int
    reason: str
    reconnect_after: float | None = None


_MAX_REASON = 123  # bytes that a close frame has room for


def fitting(reason: str) -> str:
    """As much of a reason as a close frame takes."""
    return reason.encode()[:_MAX_REASON].decode(errors="ignore")


BAD_REQUEST = Disconnect(4000, "bad request")
UNAUTHORIZED = Disconnect(4001, "unauthorized")
FORBIDDEN = Disconnect(4003, "forbidden")
POLICY = Disconnect(4004, "policy")
OVER_CAPACITY = Disconnect(4100, "over capacity")
TOKEN_EXPIRED = Disconnect(4101, "token expired: fetch a new one")
SLOW = Disconnect(4102, "too slow: resume from your position")
NO_PONG = Disconnect(4103, "no answer to a ping")
RATE_LIMITED = Disconnect(4104, "rate limit ignored")
INTERNAL = Disconnect(4105, "internal error")
RESTARTING = Disconnect(4200, "restarting")


FOREIGN = 3000
"""In place of a code from here on that a client closes with: only ours mean something."""


def is_clean(code: int) -> bool:
    """Whether a close code ends a membership at once instead of starting the leave grace.

    Clean: the client said goodbye (1000, or a close frame without a code, seen as 1005), or the
    server told it not to come back (4000-4099). Everything else is a loss that may be repaired.
    """
    return code in (1000, 1005) or 4000 <= code < 4100
