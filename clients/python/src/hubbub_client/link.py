"""One WebSocket connection, from the opening to the end."""

import json
import logging
import ssl as ssl_module
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from hubbub_client.backoff import Ending
from hubbub_client.messages import Frame
from hubbub_client.stream import Discontinuity

_OPEN_TIMEOUT = 10.0  # seconds for TCP, TLS and the upgrade
_CLOSE_TIMEOUT = 2.0  # seconds the server has to answer our close
_DOOR = "/v1/ws"
_SCHEMES = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}

# On its debug level the library logs headers, and the token is in one of them.
_library_log = logging.getLogger("hubbub_client.websockets")
_library_log.setLevel(logging.INFO)


class NoLink(Exception):
    """No connection came about."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.reason)
        self.ending = ending


@dataclass(frozen=True, slots=True)
class Route:
    """How to get there. `proxy` is an address, True for that of the environment, None for none."""

    headers: Mapping[str, str]
    ssl: ssl_module.SSLContext | None
    proxy: str | Literal[True] | None


def endpoint(url: str, user: str | None = None) -> str:
    """The address of the main door. `http` is taken for `ws`, and no path for that of the door.

    Raises ValueError for what is no such address.
    """
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES or not parts.hostname or parts.port == 0:
        raise ValueError(f"not the address of a hubbub server: {url!r}")
    query = parse_qsl(parts.query, keep_blank_values=True)
    if user is not None and "user" not in dict(query):
        query.append(("user", user))
    path = parts.path if parts.path not in ("", "/") else _DOOR
    return urlunsplit((_SCHEMES[parts.scheme], parts.netloc, path, urlencode(query), ""))


class _Connection(ClientConnection):
    """Notes when the last bytes came: pings of the server do not show otherwise."""

    heard_at = 0.0

    def data_received(self, data: bytes) -> None:
        self.heard_at = time.monotonic()
        super().data_received(data)


class Link:
    """`farewell` is the `disconnect` frame, once one came."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self._cut_because: str | None = None
        self.farewell: Frame | None = None

    @classmethod
    async def open(cls, url: str, token: str | None, route: Route) -> "Link":
        """Raises NoLink."""
        headers = dict(route.headers)
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        try:
            connection = await connect(
                url,
                additional_headers=headers,
                proxy=route.proxy,
                open_timeout=_OPEN_TIMEOUT,
                ping_interval=None,
                close_timeout=_CLOSE_TIMEOUT,
                max_size=None,  # the server's limits decide
                logger=_library_log,
                create_connection=_Connection,
                ssl=(route.ssl or True) if url.startswith("wss:") else None,
            )
        except InvalidStatus as refusal:
            raise NoLink(_refused(refusal)) from refusal
        except (OSError, WebSocketException, EOFError) as failure:
            raise NoLink(Ending(1006, _text(failure))) from failure
        assert isinstance(connection, _Connection)
        return cls(connection)

    @property
    def heard_at(self) -> float:
        """Steady time of the last sign of life."""
        return self._connection.heard_at

    async def send(self, text: str) -> bool:
        """Whether it went out; if not, `receive` is about to end."""
        try:
            await self._connection.send(text)
        except ConnectionClosed:
            return False
        return True

    async def receive(self) -> Frame | None:
        """The next frame, None at the end. Raises Discontinuity for what is no frame."""
        while True:
            try:
                text = await self._connection.recv()
            except ConnectionClosed:
                return None
            if isinstance(text, str):
                return _decode(text)

    def cut(self, reason: str) -> None:
        """End it now; the other end is past hearing it."""
        if self._cut_because is None:
            self._cut_because = reason
        self._connection.transport.abort()

    async def close(self) -> None:
        """Say goodbye, and wait for the answer, but not for long."""
        try:
            await self._connection.close()
        finally:
            self._connection.transport.abort()

    def ending(self, lived: float) -> Ending:
        """How it ended."""
        if self.farewell is not None:
            return _told(self.farewell, lived)
        if self._cut_because is not None:
            return Ending(1006, self._cut_because, lived=lived)
        received = self._connection.protocol.close_rcvd
        if received is None:
            return Ending(1006, "the connection broke", lived=lived)
        return Ending(received.code, received.reason, lived=lived)


def _decode(text: str) -> Frame:
    try:
        frame = json.loads(text)
    except ValueError as error:
        raise Discontinuity(f"not a frame: {error}") from error
    if not isinstance(frame, dict):
        raise Discontinuity("not a frame")
    return frame


def _told(farewell: Frame, lived: float) -> Ending:
    """A farewell that does not say how is as good as none: we come back."""
    code, after = farewell.get("code"), farewell.get("reconnect_after")
    return Ending(
        code if isinstance(code, int) else 1006,
        str(farewell.get("reason") or ""),
        after if isinstance(after, int | float) else 0.0,
        lived,
    )


def _refused(refusal: InvalidStatus) -> Ending:
    response = refusal.response
    told = response.headers.get("Retry-After", "")
    wait = float(told) if told.isascii() and told.isdigit() else 0.0
    return Ending(1006, f"HTTP {response.status_code}", reconnect_after=wait)


def _text(failure: BaseException) -> str:
    return str(failure) or type(failure).__name__
