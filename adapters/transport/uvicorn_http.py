"""uvicorn's HTTP protocol class with the holes before the upgrade closed.

Handed to uvicorn as `http=`. Headers are counted before they are parsed, and a request has a
deadline; a WebSocket upgrade is handed over parsed, instead of being printed and parsed again.
"""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from adapters.transport.handshake import REFUSAL, accept_key
from adapters.transport.uvicorn_asgi import Upgrade
from adapters.transport.uvicorn_frames import close_after_input
from adapters.transport.uvicorn_stream import STREAM, StreamLane
from adapters.transport.uvicorn_ws import LaneProtocol

MAX_HEADER_BYTES = 16 * 1024  # request line and all headers
HEADER_DEADLINE = 10.0  # seconds from the first byte (or the connection) to the end of headers
BODY_DEADLINE = 30.0  # seconds from there to the end of the body
PARSED_AT_ONCE = 1024  # bytes; 57 of the shortest requests, each of which costs 1,500 once parsed
READ_DEADLINE = 60.0  # seconds in which a peer has to take what is buffered for it
REFUSED_DEADLINE = 2.0  # seconds for which the input of somebody refused is read and thrown away


class _Flow(FlowControl):
    """Reads no further while requests wait for their turn."""

    waiting: Callable[[], bool]

    def resume_reading(self) -> None:
        if not self.waiting():
            super().resume_reading()


class GuardedHttpProtocol(HttpToolsProtocol):
    """One request after the other, or an upgrade."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Bytes since a request began, or since the last piece of its body: headers, and trailers
        # and chunk extensions, for which the parser has no limit of its own either.
        self._overhead = 0
        self._held = b""  # not parsed: behind requests that wait for their turn
        self._request_timer: asyncio.TimerHandle | None = None
        self._stalled_timer: asyncio.TimerHandle | None = None
        self._deaf = False
        self._upgrades: bool | None = None  # whether this request does; None until it is asked
        self._stream: StreamLane | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = flow = _Flow(transport)
        flow.waiting = lambda: bool(self.pipeline or self._held)
        transport.set_write_buffer_limits(high=1, low=0)  # `pause_writing` for anything that waits
        self._expect(HEADER_DEADLINE)

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_nothing()
        self._not_stalled()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        start = 0
        while start < len(data) and not self._deaf and not self.transport.is_closing():
            if self.pipeline:
                self._held += data[start:]
                self.flow.pause_reading()
                return
            if self._request_timer is None:
                self._expect(HEADER_DEADLINE)  # from any byte on: empty lines begin no request
            room = min(PARSED_AT_ONCE, MAX_HEADER_BYTES - self._overhead)
            if room <= 0:
                self._refuse(431, "Request Header Fields Too Large")
                return
            self._parse(data, start, start + room)
            start += room

    def _parse(self, data: bytes, start: int, stop: int) -> None:
        part = data[start:stop]
        self._overhead += len(part)
        try:
            self.parser.feed_data(part)
        except httptools.HttpParserUpgrade as upgrade:
            self._leave_http(data[start + upgrade.args[0] :])
        except httptools.HttpParserError:
            self.logger.warning("Invalid HTTP request received.")
            self._refuse(400, "Bad Request")

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._held and not self.pipeline:
            held, self._held = self._held, b""
            self.data_received(held)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._upgrades = None

    def _should_upgrade(self) -> bool:
        if self._upgrades is None:  # asked three times
            self._upgrades = super()._should_upgrade()
        return self._upgrades

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if not self._upgrades:
            self._expect(BODY_DEADLINE)
        cycle = self.cycle
        if cycle is not None and cycle.scope is self.scope:
            self.scope["extensions"] = {STREAM: {"stream": StreamLane(self, cycle)}}

    def on_body(self, body: bytes) -> None:
        self._overhead = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._overhead = 0
        self._expect_nothing()
        super().on_message_complete()

    def _leave_http(self, rest: bytes) -> None:
        """What follows is no HTTP, whoever does not know the protocol it is in."""
        self._deaf = True
        if self._should_upgrade():
            self.handle_websocket_upgrade(rest)
        else:
            self.cycle.keep_alive = False

    def handle_websocket_upgrade(self, rest: bytes = b"") -> None:
        """`rest` is what a hasty client sent behind its request."""
        accept = accept_key(self.parser.get_method(), self.parser.get_http_version(), self.headers)
        if accept is None or not self._may_answer:
            self._answer_and_close(REFUSAL)
            return
        self.connections.discard(self)
        self._not_stalled()
        protocol = cast(type[LaneProtocol], self.ws_protocol_class)(
            config=self.config, server_state=self.server_state, app_state=self.app_state
        )
        secure = self.scheme == "https"
        upgrade = Upgrade(self.url, self.headers, accept, self.server, self.client, secure)
        self.transport.set_protocol(protocol)
        protocol.take_over(self.transport, upgrade)
        if rest:
            protocol.data_received(rest)

    # Streams

    def may_stream(self) -> bool:
        """Whether the answer that is due may have the rest of the connection."""
        return not self._deaf and not self.transport.is_closing()

    def hand_over(self, stream: StreamLane) -> None:
        """Let a stream have what happens to the connection, but for its end, from now on. What
        came behind its request is forgotten."""
        self._deaf = True
        self._stream = stream
        self._expect_nothing()
        self._not_stalled()
        self.pipeline.clear()
        self._held = b""
        self.transport.set_protocol(stream)
        self.flow.resume_reading()  # or nobody would hear of the end

    def shutdown(self) -> None:
        super().shutdown()
        if self._stream is not None:
            self._stream.shutdown()

    # Deadlines

    def _expect(self, deadline: float) -> None:
        self._expect_nothing()
        self._request_timer = self.loop.call_later(deadline, self._request_is_late)

    def _request_is_late(self) -> None:
        if self.flow.read_paused:
            self._expect(HEADER_DEADLINE)  # it is we who do not read the rest
        else:
            self._refuse(408, "Request Timeout")

    def _expect_nothing(self) -> None:
        if self._request_timer is not None:
            self._request_timer.cancel()
            self._request_timer = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled_timer = self.loop.call_later(READ_DEADLINE, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._not_stalled()

    def _not_stalled(self) -> None:
        if self._stalled_timer is not None:
            self._stalled_timer.cancel()
            self._stalled_timer = None

    # The end

    @property
    def _may_answer(self) -> bool:
        """Whether an answer would be taken for that to the request at fault, and not for, or for
        a part of, the answer to one before it."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            return True
        return cycle.more_body and not cycle.response_started and not self.pipeline

    def _refuse(self, status: int, phrase: str) -> None:
        head = f"HTTP/1.1 {status} {phrase}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        self._answer_and_close(head.encode())

    def _answer_and_close(self, answer: bytes) -> None:
        self._deaf = True
        self._expect_nothing()
        if self.transport.is_closing():
            return
        if not self._may_answer:
            self.transport.close()
            return
        if self.cycle is not None:
            self.cycle.disconnected = True  # its own answer would come too late
            self.cycle.message_event.set()
        self.transport.write(answer)
        close_after_input(self.transport)
        self.loop.call_later(REFUSED_DEADLINE, self.transport.abort)
