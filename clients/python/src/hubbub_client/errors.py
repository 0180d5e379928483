"""What can go wrong, as one tree. Act on the class or on `code`, never on the text.

HubbubError
├── Refused             the server, or a check of ours before it, said no; it was not done
├── OutcomeUnknown      it may or may not have been done, and is not tried any more
├── RemovedFromRoom     somebody took you out of a room, or you may not come back into it
├── Disconnected        the hub is closed, by you or by the server, and does not come back
└── ConnectTimeout      no first connection in time (a TimeoutError as well)
"""


class HubbubError(Exception):
    """Root of the tree. `code` is one word: the server's, or one of ours in the same style."""

    code = "internal"


class Refused(HubbubError):
    """`code` is one of the table in PROTOCOL.md, section 2. `retry` tells whether the same thing
    may succeed later; the client has then tried already for as long as it could.
    """

    def __init__(self, code: str, message: str = "", *, retry: bool = False) -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code
        self.retry = retry


class OutcomeUnknown(HubbubError):
    """A publish that was sent, and whose answer will not come: the hub was closed before, or the
    server has forgotten its key (after five minutes, or with the room's log), so that a repetition
    might be stored twice."""

    code = "unknown"


class RemovedFromRoom(HubbubError):
    """`code` is `kicked`, or what a join was refused with."""

    def __init__(self, room: str, code: str, reason: str) -> None:
        super().__init__(f"removed from {room}: {reason or code}")
        self.room = room
        self.code = code
        self.reason = reason


class Disconnected(HubbubError):
    """`close_code` is the WebSocket close code, 1000 after `close`."""

    code = "closed"

    def __init__(self, close_code: int, reason: str) -> None:
        super().__init__(f"closed ({close_code}): {reason}")
        self.close_code = close_code
        self.reason = reason


class ConnectTimeout(HubbubError, TimeoutError):
    """The text says what the last try failed with."""

    code = "timeout"
