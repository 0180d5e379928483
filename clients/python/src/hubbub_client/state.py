"""How things stand between us and the server."""

from enum import StrEnum
from typing import NamedTuple


class State(StrEnum):
    CONNECTING = "connecting"
    CONNECTED = "connected"
    OFFLINE = "offline"
    CLOSED = "closed"


class StateChange(NamedTuple):
    """`code` is a close code and `reason` says in words what happened, for OFFLINE and CLOSED;
    1006 is a connection that broke, or did not come about. `retry_in`: seconds until the next
    try, when OFFLINE."""

    state: State
    code: int | None = None
    reason: str = ""
    retry_in: float | None = None
