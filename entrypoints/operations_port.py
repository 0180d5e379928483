"""A port of its own for whoever runs the server: what is told there is not for clients.

It is served by the process it tells of, in the same event loop, from before the first client until
after the last one.
"""

import asyncio
import logging
import socket
from collections.abc import Sequence

import uvicorn
from uvicorn.server import ServerState

from entrypoints.bind import address, listen

logger = logging.getLogger("hubbub.server")

PATIENCE = 0.5  # seconds for answers under way at the end


class OperationsPort:
    """Plain HTTP, without TLS and without WebSockets. `open` it once, `close` it once."""

    def __init__(
        self, config: uvicorn.Config, sockets: Sequence[socket.socket] | None = None
    ) -> None:
        """`sockets` are those to accept from; without them the address of `config` is bound."""
        self._config = config
        self._sockets = sockets
        self._state = ServerState()
        self._servers: list[asyncio.Server] = []

    async def open(self) -> None:
        """Begin to answer. Raises OSError when the address cannot be had."""
        config = self._config
        if not config.loaded:
            config.load()
        sockets = self._sockets
        if sockets is None:
            sockets = listen(config.host, config.port)
            port = sockets[0].getsockname()[1]
            logger.info("operations at %s", address("http", config.host, port))
        loop = asyncio.get_running_loop()
        for listener in sockets:
            self._servers.append(await loop.create_server(self._protocol, sock=listener))

    def _protocol(self) -> asyncio.Protocol:
        kind = self._config.http_protocol_class
        made: asyncio.Protocol = kind(  # type: ignore[call-arg]
            config=self._config, server_state=self._state, app_state={}
        )
        return made

    @property
    def port(self) -> int:
        """The one that was bound."""
        return int(self._servers[0].sockets[0].getsockname()[1])

    async def close(self, patience: float = PATIENCE) -> None:
        """Accept nobody more, and let answers under way be finished within `patience` seconds."""
        for server in self._servers:
            server.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        answering = set(self._state.tasks)
        if answering:
            await asyncio.wait(answering, timeout=patience)
        for connection in list(self._state.connections):
            if not connection.transport.is_closing():
                connection.transport.abort()
