"""Our uvicorn: one process, signals that end it with exit code 0, and a node that is watched."""

import asyncio
import gc
import logging
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import uvicorn
from uvicorn.config import STARTUP_FAILURE

from application.drain import Drain
from application.node import Node
from entrypoints.asgi import Hubbub, assemble, build_container
from entrypoints.logs import logging_config
from entrypoints.operations_port import PATIENCE, OperationsPort
from entrypoints.settings import Settings

logger = logging.getLogger("hubbub.server")

_FRAMES_BEFORE_1009 = 4  # over this many times the frame limit the WebSocket layer closes
_GC_THRESHOLDS = (10_000, 20, 50)
_LISTENERS = 8  # on each address
_STOP_TIMEOUT = 5  # seconds connections have to end before their tasks are cancelled
_HURRIED_TIMEOUT = 0.5  # seconds of these that a second signal leaves them
_TICK = 0.05  # seconds


class HubbubServer(uvicorn.Server):
    """Stops on TERM and INT, and when the node fails. `exit_code` says which it was.

    The first signal sends clients away over the drain window; a second one ends that at once.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        node: Node,
        drain: Drain,
        window: float,
        connected: Callable[[], int],
        operations: OperationsPort | None = None,
    ) -> None:
        """`connected`: how many connections there are that somebody has a session on, or had.
        `operations` is open for as long as this runs."""
        super().__init__(config)
        self.operations = operations
        self._node = node
        self._connected = connected
        self._drain = drain
        self._window = window
        self._hurry = asyncio.Event()
        self.exit_code = 0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # uvicorn's own would raise the signal again after the stop and end with its code.
        if self.should_exit:
            self.force_exit = True
            asyncio.get_running_loop().call_soon_threadsafe(self._hurry.set)
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self.operations is not None:
            try:
                await self.operations.open()
            except OSError as error:
                logger.error("HUBBUB_OPERATIONS__PORT: %s", error)
                sys.exit(STARTUP_FAILURE)
        await super().startup(sockets)
        await self._listen_more()
        # What is there now stays for ever, and connections come and go by the thousand without
        # leaving cycles behind while they live: look for garbage seldom, and only in the rest.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLDS)

    async def _listen_more(self) -> None:
        """Take new connections in groups. uvloop takes one for each listener in a turn of the loop,
        and what serves one has left the processor's caches before the next one comes."""
        loop, config = asyncio.get_running_loop(), self.config
        for listener in [one for server in self.servers for one in server.sockets]:
            for _ in range(_LISTENERS - 1):
                again = socket.fromfd(listener.fileno(), listener.family, listener.type)
                server = await loop.create_server(
                    self._connection, sock=again, ssl=config.ssl, backlog=config.backlog
                )
                self.servers.append(server)

    def _connection(self) -> asyncio.Protocol:
        made: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made

    async def main_loop(self) -> None:
        """Serve, then drain: the listener is still open, to say that we are not ready."""
        await super().main_loop()
        if self._node.failed:
            return
        self._node.draining = True
        logger.info("sending clients away; another signal stops at once")
        await self._drain(self._window, self._hurry)
        await self._farewells()

    async def _farewells(self) -> None:
        """Wait for those who were sent away to answer the close: uvicorn would stop reading, and
        the kernel throws away what is not sent yet when a socket is closed with input unread."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        while loop.time() - start < (_HURRIED_TIMEOUT if self.force_exit else _STOP_TIMEOUT):
            handshakes = any(getattr(c, "close_sent", 0) for c in self.server_state.connections)
            if not self._connected() and not handshakes:
                return
            await asyncio.sleep(_TICK)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().shutdown(sockets)
            if self.force_exit:  # uvicorn leaves the application hanging then; ours ends at once
                await self.lifespan.shutdown()
        finally:
            if self.operations is not None:
                await self.operations.close(0 if self.force_exit else PATIENCE)

    async def on_tick(self, counter: int) -> bool:
        if self._node.failed:
            self.exit_code = 1
            return True
        return await super().on_tick(counter)


def build_server(
    settings: Settings,
    siblings: Path | None = None,
    operations: list[socket.socket] | None = None,
) -> HubbubServer:
    """The server for these settings, ready to `run`. `siblings` is the folder in which it finds
    the other workers of this machine, if there are any, and `operations` the sockets of the port
    for operations, if they are not its own."""
    container = build_container(settings)
    app = assemble(container, siblings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=container.http_protocol(),
        ws=container.websocket_protocol(),
        ws_max_size=_FRAMES_BEFORE_1009 * settings.limits.frame_bytes,
        ws_per_message_deflate=settings.compression,
        ws_ping_interval=None,
        timeout_graceful_shutdown=_STOP_TIMEOUT,
        log_config=logging_config(settings.log_level, settings.log_format),
        access_log=False,
        server_header=False,
        # Named in any case: without them uvicorn asks the environment.
        forwarded_allow_ips=["127.0.0.0/8", "::1", *settings.trusted_proxies],
        lifespan="on",
        ssl_certfile=settings.ssl_certfile,
        ssl_keyfile=settings.ssl_keyfile,
    )
    admission = container.admission()
    return HubbubServer(
        config,
        container.node(),
        container.drain(),
        settings.drain_window,
        connected=lambda: admission.known,
        operations=_operations_port(settings, app, container.http_protocol(), operations),
    )


def _operations_port(
    settings: Settings,
    app: Hubbub,
    protocol: type[asyncio.Protocol],
    sockets: list[socket.socket] | None,
) -> OperationsPort | None:
    host, port = settings.operations.host, settings.operations.port
    if app.operations is None or port is None:
        return None
    config = uvicorn.Config(
        app.operations,
        host=host,
        port=port,
        http=protocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        lifespan="off",
    )
    return OperationsPort(config, sockets)
