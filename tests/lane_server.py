"""The lane alone: our protocol classes of uvicorn around an application that only opens a
transport, with a view of the server's end of each connection."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any

from uvicorn import Config
from uvicorn.server import ServerState

from adapters.transport.lane import LaneTransport, Turn
from adapters.transport.uvicorn_http import GuardedHttpProtocol
from adapters.transport.uvicorn_ws import EXTENSION, LaneProtocol
from application.framing import binary_frame, text_frame
from application.ports.transport import TransportListener
from tests.peer import until
from tests.wire import Wire


class Line(TransportListener):
    """The server's end of one connection. `receive` may be replaced; the default keeps."""

    def __init__(self, protocol: LaneProtocol, transport: LaneTransport, path: str) -> None:
        self.protocol = protocol
        self.transport = transport
        self.path = path
        self.received: list[str | bytes] = []
        self.receive: Callable[[str | bytes], None] = self.received.append
        self.told: list[str] = []
        self.code: int | None = None  # what `run` returned
        transport.attach(self)

    def overflowed(self) -> None:
        self.told.append("overflowed")

    def drained(self) -> None:
        self.told.append("drained")

    def take(self, message: str | bytes) -> None:
        self.receive(message)

    def push(self, message: str | bytes) -> None:
        """Push a message as one frame."""
        self.transport.push(framed(message))

    @property
    def gone(self) -> bool:
        """Whether the server holds nothing of the connection any more."""
        return self.protocol.disconnected and self.code is not None


class LaneServer:
    """Listens on a free port of 127.0.0.1 from `start` to `stop`. Over `limit` bytes of backlog a
    peer is too slow. `/refused` is closed by plain ASGI.

    `let_in` and `let_run`, when cleared, hold a connection before its handshake is answered, and
    before its transport runs; `let_answer` a request. `stop` proves that nothing is left behind.
    """

    def __init__(
        self,
        *,
        limit: int = 1 << 20,
        frame_limit: int = 1 << 20,
        compression: bool = False,
        cert: tuple[str, str] | None = None,
        application: Any = None,
    ) -> None:
        """`application`: in the place of the one that opens a transport."""
        self.lines: list[Line] = []
        self.on_line: Callable[[Line], None] = lambda line: None
        self.failures: list[dict[str, Any]] = []
        self.let_in, self.let_run, self.let_answer = (asyncio.Event() for _ in range(3))
        self._let_go()
        self._limit = limit
        self._turn = Turn()
        self._wires: list[Wire] = []
        self._state = ServerState()
        self._config = Config(
            application or self._application,
            interface="asgi3",
            http=GuardedHttpProtocol,
            ws=LaneProtocol,
            ws_max_size=frame_limit,
            ws_per_message_deflate=compression,
            ws_ping_interval=None,
            lifespan="off",
            log_config=None,
            ssl_certfile=cert and cert[0],
            ssl_keyfile=cert and cert[1],
        )
        self._config.load()

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self.failures.append(context))
        self._server = await loop.create_server(
            lambda: GuardedHttpProtocol(
                config=self._config, server_state=self._state, app_state={}
            ),
            host="127.0.0.1",
            ssl=self._config.ssl,
        )

    async def stop(self) -> None:
        """Close what is open, and find nothing left."""
        self._let_go()
        try:
            for wire in self._wires:
                await wire.shut()
            await until(lambda: not self._state.connections and not self._state.tasks)
        finally:
            self._server.close()
        assert not self.failures, self.failures

    def _let_go(self) -> None:
        for held in (self.let_in, self.let_run, self.let_answer):
            held.set()

    def connections(self) -> int:
        """Sockets that are not closed yet."""
        return len(self._state.connections)

    def protocols(self) -> list[Any]:
        """What holds them."""
        return list(self._state.connections)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def _listener(self) -> socket.socket:
        found: socket.socket = self._server.sockets[0]
        return found

    def narrow(self) -> None:
        """Let the kernel hold back as little as it can for the connections that follow. For what
        comes in that is not the least: below the size of a segment TCP waits for timers."""
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)

    async def wire(self, **options: Any) -> Wire:
        """A bare connection, closed at the end."""
        wire = await Wire.connect(self.port, **options)
        self._wires.append(wire)
        return wire

    async def open(self, path: str = "/", **options: Any) -> tuple[Wire, Line]:
        """A connection past the handshake, and the server's end of it."""
        known = len(self.lines)
        wire = await Wire.upgraded(self.port, path, **options)
        self._wires.append(wire)
        await until(lambda: len(self.lines) > known)
        return wire, self.lines[-1]

    async def _application(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await self.let_answer.wait()
            await answer(scope, receive, send)
            return
        assert (await receive())["type"] == "websocket.connect"
        await self.let_in.wait()
        await send({"type": "websocket.accept"})
        if scope["path"] == "/refused":
            await send({"type": "websocket.close", "code": 4000})
            return
        lane = scope["extensions"][EXTENSION]["lane"]
        line = Line(lane, LaneTransport(lane, self._turn, self._limit), scope["path"])
        self.lines.append(line)
        self.on_line(line)
        await self.let_run.wait()
        line.code = await line.transport.run(line.take)


async def answer(scope: Any, receive: Any, send: Any) -> None:
    """HTTP: how many bytes of body came, after as many bytes as the path asks for. `/deaf` does
    not wait for a body."""
    size = 0
    while scope["path"] != "/deaf":
        event = await receive()
        if event["type"] == "http.disconnect":
            return
        size += len(event["body"])
        if not event["more_body"]:
            break
    asked = scope["path"].strip("/")
    body = b"x" * (int(asked) if asked.isdigit() else 0) + str(size).encode()
    head = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": body})


def framed(message: str | bytes) -> bytes:
    return text_frame(message.encode()) if isinstance(message, str) else binary_frame(message)


def tls_for(cert: tuple[str, str]) -> ssl.SSLContext:
    """What a client needs to believe this certificate."""
    return ssl.create_default_context(cafile=cert[0])
