"""The handshake of a WebSocket with the ASGI application, and how the application hears and speaks
until a transport takes the connection over.

Not uvicorn's own class for this: what of it would be of use here is less than what would have to be
undone in it, and it is heavy for a connection that does nothing.
"""

import asyncio
import logging
from typing import Any, NamedTuple
from urllib.parse import unquote

from uvicorn.config import Config
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.server import ServerState
from websockets.frames import CloseCode

from adapters.transport.compression import negotiate
from adapters.transport.handshake import Headers, offered_subprotocols, refusal, switching
from adapters.transport.uvicorn_frames import BoundedProtocol, Event

logger = logging.getLogger("uvicorn.error")


class Upgrade(NamedTuple):
    """A request to become a WebSocket, parsed and found good. `accept` is the proof of it for the
    client; `server` and `client` are the addresses of the connection."""

    target: bytes
    headers: Headers
    accept: bytes
    server: tuple[str, int | None] | None
    client: tuple[str, int] | None
    secure: bool


class AsgiProtocol(BoundedProtocol):
    """From the upgrade on. Frames from the application are not taken: they go by the lane."""

    _accept = b""
    _greeting = b""  # the answer to the upgrade, until it is written
    _agreed: bytes | None = None  # extensions
    _refusal: tuple[int, Headers, bytes] | None = None  # as far as the application has said it

    def __init__(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any]
    ) -> None:
        super().__init__(config.ws_max_size)
        self._config = config
        self._state = server_state
        self._app_state = app_state

    def take_over(self, transport: asyncio.Transport, upgrade: Upgrade) -> None:
        """In place of `connection_made`: go on with a connection that asks for an upgrade."""
        self.transport = transport
        self._state.connections.add(self)  # type: ignore[arg-type]  # it names its own classes
        self._accept = upgrade.accept
        if self._config.ws_per_message_deflate and (agreement := negotiate(upgrade.headers)):
            self._agreed, extension = agreement
            self._extensions = (extension,)
        self.events.put_nowait({"type": "websocket.connect"})
        task = self.loop.create_task(self._run(self.scope(upgrade)))
        task.add_done_callback(self._state.tasks.discard)
        self._state.tasks.add(task)

    def scope(self, upgrade: Upgrade) -> Event:
        """What the application is told of the connection."""
        config = self._config
        path, _, query = upgrade.target.partition(b"?")
        return {
            "type": "websocket",
            "asgi": {"version": config.asgi_version, "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "wss" if upgrade.secure else "ws",
            "server": upgrade.server,
            "client": upgrade.client,
            "root_path": config.root_path,
            "path": config.root_path + unquote(path.decode("ascii")),
            "raw_path": config.root_path.encode("ascii") + path,
            "query_string": query,
            "headers": upgrade.headers,
            "subprotocols": offered_subprotocols(upgrade.headers),
            "state": self._app_state.copy(),
            "extensions": {"websocket.http.response": {}},
        }

    async def _run(self, scope: Event) -> None:
        try:
            application: Any = self._config.loaded_app
            await application(scope, self.receive, self.send)
        except ClientDisconnected:
            return
        except Exception:
            logger.exception("Exception in ASGI application")
            if self.handshake_complete and not self.close_sent:
                self.write(self.close_frame(CloseCode.INTERNAL_ERROR, ""))
                self._take_held()
        else:
            if not self.handshake_complete and not self.disconnected:
                logger.error("the ASGI application has not answered a WebSocket")
        finally:
            if not self.handshake_complete and not self.disconnected:
                self._refuse(500, [], b"Internal Server Error")
            if self.close_timer is None:
                self._close()

    # What the application hears and says

    async def receive(self) -> Event:
        if self._over is not None:  # the rest is for the transport
            return {"type": "websocket.disconnect", "code": await asyncio.shield(self._over)}
        event = await self.events.get()
        self._take_held()
        return event

    async def send(self, message: Event) -> None:
        """Raises ClientDisconnected, and RuntimeError for what is not awaited here."""
        if self.disconnected or self.is_closing():
            raise ClientDisconnected
        match message["type"]:
            case "websocket.accept" if not self.handshake_complete:
                self._let_in(message.get("subprotocol"))
            case "websocket.http.response.start" if not self.handshake_complete:
                self._refusal = message["status"], list(message.get("headers", ())), b""
            case "websocket.http.response.body" if self._refusal is not None:
                status, headers, body = self._refusal
                self._refusal = status, headers, body + message.get("body", b"")
                if not message.get("more_body", False):
                    self._refuse(*self._refusal)
            case "websocket.close" if not self.handshake_complete:
                self._refuse(403, [], b"")
            case "websocket.close":
                self.write(self.close_frame(message.get("code", 1000), message.get("reason") or ""))
                self._take_held()
            case kind:
                raise RuntimeError(f"{kind} has no place here")

    def _let_in(self, subprotocol: str | None) -> None:
        self.handshake_complete = True
        self._greeting = switching(self._accept, subprotocol, self._agreed)
        # With what is said right away, which is written in the next turn of the loop, or else in
        # the one after that: a system call less where many come at once.
        self.loop.call_soon(self.loop.call_soon, self._greet)
        self._take_held()

    def _refuse(self, status: int, headers: Headers, body: bytes) -> None:
        answer = refusal(status, [*self._state.default_headers, *headers], body)
        self._refusal = None
        self.handshake_complete = self.close_sent = True
        self.write(answer)
        self._close()

    def _greet(self) -> None:
        if self._greeting:
            self.write(b"")

    def write(self, frames: bytes) -> None:
        greeting, self._greeting = self._greeting, b""
        super().write(greeting + frames)

    # The end

    def shutdown(self) -> None:
        """End it: uvicorn stops."""
        self._greet()
        if not self.handshake_complete:
            self._refuse(503, [], b"")
        elif not self.close_sent:
            self.write(self.close_frame(CloseCode.SERVICE_RESTART, ""))
        self._close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._state.connections.discard(self)
        super().connection_lost(exc)
