"""The reading side of one ASGI WebSocket."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class PeerGone(Exception):
    """The connection is over. `code` is the close code received, 1006 for none."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Inbox:
    """Frames from the peer, one at a time: text as str, binary as bytes."""

    __slots__ = ("receive",)

    def __init__(self, receive: Receive) -> None:
        self.receive = receive

    async def connect(self) -> None:
        """Take the event that opens every connection."""
        event = await self.receive()
        if event["type"] != "websocket.connect":
            raise PeerGone(1006)

    async def next(self) -> str | bytes:
        """The next frame. Raises PeerGone."""
        event = await self.receive()
        if event["type"] == "websocket.disconnect":
            raise PeerGone(event.get("code") or 1005)
        text: str | None = event.get("text")
        data: bytes | None = event.get("bytes")
        return (data or b"") if text is None else text
