"""What comes in after the upgrade, and the end.

Frames are taken apart by the sans-I/O protocol, within bounds that it lacks: fragments, control
frames, how much of one read it takes apart at once, reading from a peer that does not read, and
the time that an end may take. Replies to what came before a close or an error go out before it.
"""

import asyncio
import logging
from typing import Any

from websockets.exceptions import InvalidState
from websockets.extensions import Extension
from websockets.frames import Opcode
from websockets.protocol import OPEN

from adapters.transport import lane
from adapters.transport.fragments import Frames, Unacceptable
from application.disconnects import POLICY, RATE_LIMITED
from application.ports.transport import Receive
from domain.throttle import TokenBucket

FRAGMENTS_DEADLINE = 10.0  # seconds from the first fragment of a message to the last
CONTROLS_PER_SECOND = 10.0  # pings and pongs from one peer
CONTROLS_BURST = 20.0
READ_PAUSE = 64 * 1024  # bytes of unsent output over which nothing is read from a peer
PARSED_AT_ONCE = 4096  # bytes; a frame of 6 bytes costs 100 times as much once it is parsed

Event = dict[str, Any]
"""An event of ASGI, or the scope."""

_NOT_RECEIVED = 1006  # in place of a close code

# The library has a line for every opening and every closing; so have we.
_quiet = logging.getLogger("websockets.server")


def close_after_input(transport: asyncio.Transport) -> None:
    """Close, but throw away what the peer still sends until it has closed as well: a socket closed
    with input unread takes back what was sent, and the peer would not learn why. The caller sets
    a deadline."""
    if transport.is_closing():
        return
    if not transport.can_write_eof():  # TLS, which has an end of its own
        transport.close()
        return
    try:
        transport.write_eof()
    except OSError:
        transport.abort()  # reset by the peer, which we have yet to hear


class BoundedProtocol(asyncio.Protocol):
    """Hands messages to `_receive` once there is one, and to the queue of events until then."""

    transport: asyncio.Transport

    # Here, and not in each: nearly all connections leave these as they are.
    handshake_complete = False
    close_sent = False
    disconnected = False
    close_timer: asyncio.TimerHandle | None = None
    read_paused = False
    _fragment_timer: asyncio.TimerHandle | None = None
    _held = b""  # read before anybody was there to take it
    _receive: Receive | None = None
    _over: asyncio.Future[int] | None = None
    _holding: asyncio.TimerHandle | None = None  # until when nothing is taken
    _leaving = False  # reads no more
    _gone = False  # writes no more
    _frames: Frames | None = None
    _extensions: tuple[Extension, ...] = ()

    def __init__(self, frame_limit: int) -> None:
        """`frame_limit`: bytes of a message over which the connection is closed."""
        self.loop = asyncio.get_running_loop()
        self.events: asyncio.Queue[Event] = asyncio.Queue()  # for the ASGI application
        self._frame_limit = frame_limit
        self._controls = TokenBucket(CONTROLS_PER_SECOND, CONTROLS_BURST)
        self._written = 0  # bytes handed to the transport

    @property
    def conn(self) -> Frames:
        """The sans-I/O protocol. Not made before it is needed: many connections need it at their
        end only."""
        if self._frames is None:
            self._frames = Frames(state=OPEN, max_size=self._frame_limit, logger=_quiet)
            self._frames.extensions = list(self._extensions)
        return self._frames

    # What the peer sends

    def data_received(self, data: bytes) -> None:
        self._take(data)

    def _take(self, data: bytes) -> None:
        for start in range(0, len(data), PARSED_AT_ONCE):
            if self._leaving:
                return
            if self._holding is not None or not self._wanted:
                self._held += data[start:]
                self._pause_reading()
                return
            self.conn.receive_data(data[start : start + PARSED_AT_ONCE])
            self.handle_events()

    @property
    def _wanted(self) -> bool:
        """Whether somebody is there to take what the peer sends, or nobody will be any more."""
        if self._receive is not None or self.close_sent:
            return True
        return self.handshake_complete and self.events.empty()

    def hold(self, seconds: float) -> None:
        """Take nothing more of the peer for so long; what it sends waits, here and with it."""
        if self._holding is None and not self._leaving:
            self._holding = self.loop.call_later(seconds, self._release)
            self._pause_reading()

    def _release(self) -> None:
        if self._holding is not None:
            self._holding.cancel()
            self._holding = None
            self._take_held()

    def _take_held(self) -> None:
        """Go on once somebody is there to take it, or has taken what came before."""
        held, self._held = self._held, b""
        self._take(held)
        if self.buffered <= READ_PAUSE:
            self._resume_reading()

    def handle_events(self) -> None:
        for event in self.conn.events_received():
            self._handle_frame(event)
            if self._leaving:
                return
        if self.conn.parser_exc is not None:
            self._leave(_NOT_RECEIVED)  # what came before the error has been handed over
        elif self.conn.writes:
            self.write(b"".join(self.conn.data_to_send()))  # pongs

    def _handle_frame(self, frame: Any) -> None:
        if frame.opcode is Opcode.CLOSE:
            self._leave(self._received_code())
        elif frame.opcode in (Opcode.PING, Opcode.PONG):
            self._count_control()
        elif not self.close_sent:
            try:
                message = self.conn.assembly.add(frame)
            except Unacceptable as refused:
                self._fail(refused.code, refused.reason)
            else:
                self._expect_more(message is None)
                if message is not None:
                    self._hand_over(message)

    def _count_control(self) -> None:
        if self._controls.take(self.loop.time()):
            self._fail(RATE_LIMITED.code, "too many pings or pongs")

    def _hand_over(self, message: str | bytes) -> None:
        if self._receive is not None:
            self._receive(message)
            return
        kind = "text" if isinstance(message, str) else "bytes"
        self.events.put_nowait({"type": "websocket.receive", kind: message})
        self._pause_reading()

    def _expect_more(self, more: bool) -> None:
        """Set the deadline of a message of which a part has arrived, or take it back."""
        if more and self._fragment_timer is None:
            self._fragment_timer = self.loop.call_later(FRAGMENTS_DEADLINE, self._message_is_late)
        elif not more and self._fragment_timer is not None:
            self._fragment_timer.cancel()
            self._fragment_timer = None

    def _message_is_late(self) -> None:
        self._fragment_timer = None
        if self.read_paused:
            self._expect_more(True)  # it is we who do not read the rest
        else:
            self._fail(POLICY.code, "a fragmented message took too long")

    # The end

    def _fail(self, code: int, reason: str) -> None:
        """Close without waiting for the peer's consent."""
        self.conn.fail(code, reason)
        self._leave(_NOT_RECEIVED)

    def _leave(self, code: int) -> None:
        """Read no more, and close: after what this turn still writes, the last replies."""
        if self._leaving:
            return
        self._leaving = True
        self._release()
        self.close_sent = True
        self.conn.assembly.forget()
        self._expect_more(False)
        self.loop.call_soon(self._hang_up, code)

    def _hang_up(self, code: int) -> None:
        self.write(b"".join(self.conn.data_to_send()))
        self._gone = True
        self._expect_the_end()
        if code == _NOT_RECEIVED:
            close_after_input(self.transport)
            self._resume_reading()
        else:
            self.transport.close()
        self._end(code)

    def _close(self) -> None:
        self.transport.close()
        self._expect_the_end()

    def _expect_the_end(self) -> None:
        # A transport that is closing waits for its buffer, however long the peer takes for it.
        if self.close_timer is None and not self.disconnected:
            self.close_timer = self.loop.call_later(lane.CLOSE_DEADLINE, self.transport.abort)

    def _end(self, code: int) -> None:
        """Tell whoever reads, once."""
        if self._over is None:
            self.events.put_nowait({"type": "websocket.disconnect", "code": code})
        elif not self._over.done():
            self._over.set_result(code)

    def _received_code(self) -> int:
        received = None if self._frames is None else self._frames.close_rcvd
        return _NOT_RECEIVED if received is None else received.code

    def close_frame(self, code: int, reason: str) -> bytes:
        """Begin the closing handshake; the frame to write for it, empty when it has begun."""
        self._expect_the_end()
        try:
            self.conn.send_close(code, reason)
        except InvalidState:
            return b""
        self.close_sent = True
        return b"".join(self.conn.data_to_send())

    def eof_received(self) -> None:
        self._end(self._received_code())
        self._expect_the_end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_more(False)
        self._release()
        self._end(self._received_code())
        self.disconnected = True
        if self.close_timer is not None:
            self.close_timer.cancel()
            self.close_timer = None

    # Flow control

    def is_closing(self) -> bool:
        """Whether the connection is gone or going."""
        return self._gone or self.transport.is_closing()

    @property
    def buffered(self) -> int:
        """Bytes written and not yet taken by the kernel."""
        return self.transport.get_write_buffer_size()

    def write(self, frames: bytes) -> None:
        """Write, or buffer what the kernel does not take, and nothing more is read then."""
        if self.is_closing():
            return  # uvloop raises for a transport that is closed
        self.transport.write(frames)
        self._written += len(frames)
        if self.buffered > READ_PAUSE:
            self._pause_reading()

    def _pause_reading(self) -> None:
        if not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()

    def _resume_reading(self) -> None:
        if self.read_paused and self._holding is None:
            self.read_paused = False
            self.transport.resume_reading()
