"""The real server in the loop of a test, with a view inside."""

import asyncio
import logging
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any, ClassVar, Protocol
from unittest.mock import patch
from weakref import WeakSet

import httpx
from blockbuster import BlockBuster
from prometheus_client.parser import text_string_to_metric_families
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from entrypoints import server as server_module
from entrypoints.asgi import build_container
from entrypoints.container import Container
from entrypoints.logs import ConsoleFormatter
from entrypoints.settings import Settings
from tests.event_source import EventSource
from tests.leftovers import held, open_connections, our_tasks
from tests.peer import DEADLINE, Frame, Peer, until

DOORS = [
    "/v1/ws",
    "/ws",
    "/ws/binary",
    "/ws/ann",
    "/ws/rooms/r/ann",
    "/ws/scalable/ann",
    "/ws/secure",
    "/ws/heartbeat/ann",
]
"""All of them, as `ann` comes in where the path has a name."""


@contextmanager
def fit_for_tests() -> Iterator[None]:
    """A server alone in its process freezes what it has for the garbage collector, and looks ten
    times a second whether to stop: here it shares the process, and hundreds are stopped."""

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(seconds / 20)

    hasty = SimpleNamespace(**{**vars(asyncio), "sleep": sleep})
    collector = SimpleNamespace(collect=int, freeze=int, set_threshold=lambda *_: None)
    with patch("uvicorn.server.asyncio", hasty), patch.object(server_module, "gc", collector):
        yield


@contextmanager
def nothing_blocks() -> Iterator[None]:
    """Whoever calls what blocks, from code of ours in the event loop, gets an exception."""
    detector = BlockBuster(scanned_modules=["domain", "application", "adapters", "entrypoints"])
    for function in detector.functions.values():
        # What a process is told of itself comes out of the memory of the kernel.
        function.can_block_in("adapters/prometheus_metrics.py", "render")
        # Nobody waits yet while a server is built.
        function.can_block_in("tests/conftest.py", "start")
        function.can_block_in("entrypoints/server.py", "startup")
    detector.activate()
    try:
        yield
    finally:
        detector.deactivate()


_PECULIAR = [
    # What uvicorn's own WebSocket protocol calls an error although nothing is wrong with us: a
    # refusal with an HTTP status, and a peer that sends no UTF-8; and its HTTP protocol, a stream
    # that is cut because nobody reads it.
    "ASGI callable returned without completing handshake.",
    "Invalid UTF-8 sequence received from client.",
    "ASGI callable returned without completing response.",
]


class LogTape(logging.Handler):
    """Log lines as the operator would read them. Of errors, `expected` ones are not noted."""

    def __init__(self, expected: Sequence[str] = ()) -> None:
        super().__init__()
        self._expected = expected
        self.setFormatter(ConsoleFormatter())
        self.lines: list[str] = []
        self.errors: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        self.lines.append(line)
        if record.levelno >= logging.ERROR and record.getMessage() not in self._expected:
            self.errors.append(line)

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


class RunningServer:
    """Listens on a free port of 127.0.0.1 from `start` to `stop`.

    `stop` proves that the end of all connections leaves nothing behind. `log.errors` must be
    empty by then: a test that provokes an error takes it out.
    """

    _background: ClassVar[WeakSet[asyncio.Task[Any]]] = WeakSet()  # tasks of all servers' own
    _serving: ClassVar[int] = 0  # servers, whose connections have tasks in the same loop

    def __init__(self, settings: Settings, *, lane: bool = True) -> None:
        """Without `lane` under uvicorn's own protocol classes, as under any ASGI server."""
        self.settings = settings
        self.log = LogTape([] if lane else _PECULIAR)
        self._lane = lane
        self.container: Container
        self._peers: list[Peer | EventSource] = []
        self._running: asyncio.Task[None] | None = None
        self._undo = ExitStack()
        self._server = self._build()

    def _build(self) -> server_module.HubbubServer:
        def keep(settings: Settings) -> Container:
            self.container = build_container(settings)
            if not self._lane:
                self.container.http_protocol.override(HttpToolsProtocol)
                self.container.websocket_protocol.override(WebSocketsSansIOProtocol)
            return self.container

        root = logging.getLogger()
        handlers, level = list(root.handlers), root.level
        with patch.object(server_module, "build_container", keep):
            server = server_module.build_server(self.settings)
        for handler in list(root.handlers):
            root.removeHandler(handler)
        root.addHandler(self.log)

        def restore() -> None:
            root.handlers[:] = handlers
            root.setLevel(level)

        self._undo.callback(restore)
        return server

    async def start(self) -> None:
        # Without `serve`, which takes over the signals of the process.
        self._running = asyncio.create_task(self._server._serve())
        RunningServer._serving += 1
        await until(lambda: self._server.started or self.stopped)
        assert self._server.started, self.log.text
        self._background.update(our_tasks())

    @property
    def stopped(self) -> bool:
        return self._running is not None and self._running.done()

    @property
    def port(self) -> int:
        return int(self._server.servers[0].sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        return f"{'https' if self.settings.tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"{'wss' if self.settings.tls else 'ws'}://127.0.0.1:{self.port}"

    @property
    def operations_url(self) -> str:
        """Where operations are, if they have a port of their own."""
        assert self._server.operations is not None
        return f"http://127.0.0.1:{self._server.operations.port}"

    # Clients

    async def connect(self, path: str, **options: Any) -> Peer:
        """A connection at a door; closed at the end if the test does not."""
        peer = await Peer.connect(self.ws_url + path, **options)
        self._peers.append(peer)
        return peer

    async def user(self, name: str) -> Peer:
        """A user at the main door in open mode, past the greeting."""
        peer = await self.connect(f"/v1/ws?user={name}")
        await peer.expect("connected", user_id=name)
        await peer.expect("joined", room=f"@{name}")
        return peer

    async def member(self, name: str, room: str, **position: object) -> tuple[Peer, Frame]:
        """Such a user in a room, and the answer to its join."""
        peer = await self.user(name)
        joined = await peer.ask("join", room=room, **position)
        assert joined["type"] == "joined", joined
        return peer, joined

    async def events(self, query: str, last_id: str = "", **options: Any) -> EventSource:
        """An event stream; closed at the end if the test does not."""
        source = await EventSource.open(f"{self.url}/v1/events?{query}", last_id, **options)
        self._peers.append(source)
        return source

    async def get(self, path: str, **options: Any) -> httpx.Response:
        return await self.request("GET", path, **options)

    async def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        async with httpx.AsyncClient(base_url=self.url, trust_env=False) as client:
            return await client.request(method, path, **options)

    def narrow(self) -> None:
        """Let the kernel hold back as little as it can for the connections that follow, so that
        what a peer does not read is found in the server's own buffers."""
        for listener in self._server.servers[0].sockets:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)

    # The view inside

    def metric(self, name: str, label: str | None = None) -> float:
        """A sample as a scrape would show it; 0 for one that is not there yet."""
        exposition = self.container.metrics().render()[0].decode()
        return sum(
            sample.value
            for family in text_string_to_metric_families(exposition)
            for sample in family.samples
            if sample.name == f"hubbub_{name}" and label in (None, *sample.labels.values())
        )

    def sessions(self) -> int:
        return len(self.container.hub().sessions)

    def backlog(self) -> int:
        """Bytes that wait for the slowest peer."""
        sessions = self.container.hub().sessions.values()
        return max((session.transport.backlog for session in sessions), default=0)

    def connections(self) -> int:
        """Sockets that uvicorn still holds, with or without a session."""
        return len(self._server.server_state.connections)

    async def lost(self, sessions: int) -> None:
        """Wait until that many sessions are left."""
        await until(lambda: self.sessions() == sessions)

    # The end

    async def stop(self) -> None:
        """Close what is open, prove that nothing is left, and end. Once is enough."""
        if self._running is None:
            self._undo.close()
            return
        running, self._running = self._running, None
        try:
            await asyncio.gather(*(peer.close() for peer in self._peers))
            if not running.done():
                await self._leaves_nothing()
        finally:
            RunningServer._serving -= 1
            self._server.should_exit = True
            await running
            self._undo.close()
        assert not self.log.errors, self.log.errors

    async def _leaves_nothing(self) -> None:
        try:
            await until(lambda: not self._left())
        except TimeoutError:
            raise AssertionError(f"left behind: {self._left()}") from None

    def _left(self) -> dict[str, float]:
        state = self._server.server_state
        found = {
            **held(self.container, self._background if self._serving == 1 else our_tasks()),
            "rooms that are told": self.metric("rooms"),
            "sockets": float(len(state.connections)),
            "descriptors": float(open_connections(self.port)),
            "tasks": float(len(state.tasks)),
        }
        return {name: number for name, number in found.items() if number}

    def begin_to_stop(self) -> None:
        """What a signal does, with whoever is connected."""
        self._server.handle_exit(signal.SIGTERM, None)

    async def ended(self) -> int:
        """Wait for an end that has begun, and return what the exit code of a process would be."""
        assert self._running is not None
        await asyncio.wait({self._running}, timeout=DEADLINE)
        assert self.stopped, self.log.text
        return self._server.exit_code


class Serve(Protocol):
    """The fixture `serve`: starts a server in the test's loop. Arguments are those of Settings."""

    async def __call__(self, **settings: Any) -> RunningServer: ...
