"""The lane of event streams: what follows the head of a response, straight to the socket.

The body ends with the connection, so that what is written is what was pushed, without the size of
each chunk around it. A peer says nothing here, and nothing it sends is read as a request.
"""

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Protocol

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from adapters.transport import lane
from adapters.transport.lane import Lane
from adapters.transport.uvicorn_frames import close_after_input
from application.ports.transport import Receive

STREAM = "hubbub.stream"
"""Where it is found in `scope["extensions"]`, as `{"stream": StreamLane}`."""

_GONE = 1006  # there is no goodbye in this direction
_SOCKETS_ARE_NO_FILES = os.name == "nt"  # their numbers may be those of files there


class HttpConnection(Protocol):
    """What it needs of the protocol class that read the request."""

    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop

    def may_stream(self) -> bool:
        """Whether the answer that is due may have the rest of the connection."""

    def hand_over(self, stream: "StreamLane") -> None:
        """Let the stream have what happens to the connection from now on."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""


class StreamLane(asyncio.Protocol, Lane):
    """The connection of one response. `reserve` it, send the head as usual, then `take` it."""

    def __init__(self, http: HttpConnection, cycle: RequestResponseCycle) -> None:
        self._http = http
        self._cycle = cycle
        self._transport = http.transport
        self._loop = http.loop
        self._over: asyncio.Future[int] | None = None
        self._clogged: Callable[[bool], None] | None = None
        self._leaving = False
        self._deadline: asyncio.TimerHandle | None = None
        self._waited = 0  # bytes that were buffered when somebody last asked for life
        self._written = 0  # bytes handed to the transport since then

    def reserve(self) -> bool:
        """Have the response end with its connection, if that can be."""
        if not self._http.may_stream():
            return False
        self._cycle.chunked_encoding = False
        self._cycle.keep_alive = False
        return True

    def take(self, silence: float) -> None:
        """Take over, after the head. What was sent and not acknowledged for `silence` seconds
        means that the peer is gone."""
        self._over = self._loop.create_future()
        if self._cycle.disconnected:
            self._over.set_result(_GONE)
            return
        self._http.hand_over(self)
        _limit_silence(self._transport, silence)

    # Lane

    @property
    def compressed(self) -> bool:
        return False

    @property
    def buffered(self) -> int:
        return self._transport.get_write_buffer_size()

    def write(self, frames: bytes) -> None:
        if not self.is_closing():
            self._transport.write(frames)
            self._written += len(frames)

    def socket_fd(self) -> int | None:
        if _SOCKETS_ARE_NO_FILES or self._transport.get_extra_info("ssl_object") is not None:
            return None
        found = self._transport.get_extra_info("socket")
        return None if found is None else int(found.fileno())

    def is_closing(self) -> bool:
        return self._leaving or self._cycle.disconnected or self._transport.is_closing()

    def send_ping(self) -> bool:
        # The comment that the dialect sends is one: it is answered by being taken.
        return not self.is_closing()

    def hold(self, seconds: float) -> None:
        """There is nothing that would be read."""

    def heard(self) -> bool:
        """False when something waited for the peer and it took nothing of it since then."""
        waited, self._waited = self._waited, self.buffered
        written, self._written = self._written, 0
        return not waited or waited + written > self._waited

    def close_frame(self, code: int, reason: str) -> bytes:
        self._loop.call_soon(self._hang_up)  # after what is written with this
        return b""

    def watch(self, clogged: Callable[[bool], None]) -> None:
        self._clogged = clogged
        if self.is_closing():
            clogged(True)
            return
        # Told at the first byte that the kernel does not take, as in LaneProtocol.
        tls = self._transport.get_extra_info("ssl_object") is not None
        self._transport.set_write_buffer_limits(high=int(tls), low=0)
        if self.buffered:
            clogged(True)

    def divert(self, receive: Receive) -> "asyncio.Future[int]":
        if self._over is None:
            raise RuntimeError("the stream has not been taken")
        return self._over

    # The connection

    def data_received(self, data: bytes) -> None:
        """Whatever comes behind the request for a stream is for nobody."""

    def pause_writing(self) -> None:
        self._tell_clogged(True)

    def resume_writing(self) -> None:
        self._tell_clogged(self.is_closing())

    def _tell_clogged(self, clogged: bool) -> None:
        if self._clogged is not None:
            self._clogged(clogged)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._cycle.disconnected = True
        self._tell_clogged(True)  # before the descriptor is another's
        self._http.connection_lost(exc)
        if self._over is not None and not self._over.done():
            self._over.set_result(_GONE)

    def shutdown(self) -> None:
        """The server stops."""
        self._hang_up()

    def _hang_up(self) -> None:
        if not self.is_closing():
            self._leaving = True
            self._tell_clogged(True)
            close_after_input(self._transport)
            self._deadline = self._loop.call_later(lane.CLOSE_DEADLINE, self._transport.abort)


def _limit_silence(transport: asyncio.Transport, seconds: float) -> None:
    """Have the kernel give a connection up whose peer acknowledges nothing for so long. Without
    answers to pings it is the only sign of a peer that vanished: the kernel takes bytes for it."""
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    found = transport.get_extra_info("socket")
    if option is None or found is None or found.family not in (socket.AF_INET, socket.AF_INET6):
        return
    found.setsockopt(socket.IPPROTO_TCP, option, int(seconds * 1000))
