"""What a server may let us do to a connection besides ASGI's send and receive."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Protocol, cast

EXTENSION = "hubbub.link"
"""Where a server of ours leaves `{"link": ServerLink}` in `scope["extensions"]`."""


class ServerLink(Protocol):
    """Access to one connection underneath ASGI. Synchronous; safe after the connection is gone."""

    __slots__ = ()

    @property
    @abstractmethod
    def buffered(self) -> int:
        """Bytes written and not yet taken by the kernel."""

    @abstractmethod
    def send_ping(self) -> bool:
        """Send a WebSocket ping; False when the connection is no longer open."""

    @abstractmethod
    def heard(self) -> bool:
        """Whether any bytes arrived since the last call."""

    @abstractmethod
    def abort(self) -> None:
        """Drop the connection with everything that is still unsent."""


def link_of(scope: Mapping[str, Any]) -> ServerLink | None:
    """The link, when the server is one of ours."""
    extensions = scope.get("extensions") or {}
    return cast("ServerLink | None", extensions.get(EXTENSION, {}).get("link"))
