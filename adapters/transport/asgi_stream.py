"""The portable transport of event streams: the body of a response through plain ASGI `send`."""

from collections.abc import Iterator, MutableMapping
from typing import Any

from adapters.transport.asgi import AsgiTransport
from application.disconnects import Disconnect
from application.ports.transport import Receive

_GONE = 1006  # there is no goodbye in this direction


class AsgiStream(AsgiTransport):
    """As AsgiTransport, for a response whose head has been sent. Nothing is ever received."""

    def _events(self, frames: bytes) -> Iterator[MutableMapping[str, Any]]:
        yield {"type": "http.response.body", "body": frames, "more_body": True}

    def _ending(self, disconnect: Disconnect) -> MutableMapping[str, Any]:
        return {"type": "http.response.body", "body": b"", "more_body": False}

    async def _read(self, receive: Receive) -> int:
        while (await self._receive())["type"] != "http.disconnect":
            pass  # the body of the request, if it has one
        return _GONE
