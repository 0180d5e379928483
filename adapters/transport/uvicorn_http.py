"""uvicorn's HTTP protocol class with the holes before the upgrade closed.

Handed to uvicorn as `http=`. Headers are counted before they are parsed and have a deadline, and
a WebSocket upgrade is handed over parsed, instead of being printed and parsed again.
"""

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from adapters.transport.uvicorn_ws import LaneProtocol

MAX_HEADER_BYTES = 16 * 1024  # request line and all headers
HEADER_DEADLINE = 10.0  # seconds from the first byte (or the connection) to the end of headers


class GuardedHttpProtocol(HttpToolsProtocol):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._header_bytes = 0
        self._in_headers = True
        self._header_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._headers_are_through()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        while data and not self.transport.is_closing():
            if not self._in_headers:
                super().data_received(data)
                return
            # No more than may be headers goes to the parser at once: it has no limit of its own.
            room = MAX_HEADER_BYTES - self._header_bytes
            if room <= 0:
                self._refuse(431, "Request Header Fields Too Large")
                return
            part, data = data[:room], data[room:]
            self._header_bytes += len(part)
            super().data_received(part)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._header_timer is None:
            self._expect_headers()

    def on_headers_complete(self) -> None:
        self._headers_are_through()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_headers = True
        self._header_bytes = 0

    def _expect_headers(self) -> None:
        self._in_headers = True
        self._header_bytes = 0
        self._header_timer = self.loop.call_later(
            HEADER_DEADLINE, self._refuse, 408, "Request Timeout"
        )

    def _headers_are_through(self) -> None:
        self._in_headers = False
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _refuse(self, status: int, phrase: str) -> None:
        if self.transport.is_closing():
            return
        head = f"HTTP/1.1 {status} {phrase}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        self.transport.write(head.encode())
        self.transport.close()

    def handle_websocket_upgrade(self) -> None:
        self.connections.discard(self)
        if self.parser.get_method() != b"GET":
            self.send_400_response("a WebSocket upgrade is a GET")
            return
        protocol = cast(type[LaneProtocol], self.ws_protocol_class)(
            config=self.config, server_state=self.server_state, app_state=self.app_state
        )
        protocol.connection_made(self.transport)
        self.transport.set_protocol(protocol)
        protocol.upgrade(self.url, self.headers)
