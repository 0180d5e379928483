"""uvicorn's WebSocket protocol, handing out what the transport needs from below ASGI.

Handed to uvicorn as `ws=`. uvicorn is pinned exactly, and a test fails when one of the methods
overridden here changes.
"""

from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request
from websockets.protocol import State

from adapters.transport.link import EXTENSION, ServerLink


class HubbubWebSocketProtocol(WebSocketsSansIOProtocol, ServerLink):
    """A ServerLink to itself. Pings are the session's business: uvicorn's must be off."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._heard = False

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if not self.close_sent:  # the upgrade was not refused; the application runs next turn
            extensions = self.scope["extensions"]
            extensions[EXTENSION] = {"link": self}

    def data_received(self, data: bytes) -> None:
        self._heard = True
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        # uvicorn reports 1005 here, which stands for a close frame without a code: a goodbye.
        if self.handshake_complete and self.conn.close_rcvd is None:
            self.queue.put_nowait({"type": "websocket.disconnect", "code": 1006})
        super().connection_lost(exc)

    @property
    def buffered(self) -> int:
        return self.transport.get_write_buffer_size()

    def send_ping(self) -> bool:
        if self.conn.state is not State.OPEN or self.transport.is_closing():
            return False
        self.conn.send_ping(b"")
        self.transport.write(b"".join(self.conn.data_to_send()))
        return True

    def heard(self) -> bool:
        heard, self._heard = self._heard, False
        return heard

    def abort(self) -> None:
        self.transport.abort()
