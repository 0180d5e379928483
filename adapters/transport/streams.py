"""How an event stream gets its transport: the lane where there is one, plain ASGI elsewhere."""

from collections.abc import Callable, Mapping
from typing import Any

from adapters.transport.asgi import AsgiReceive, Send
from adapters.transport.asgi_stream import AsgiStream
from adapters.transport.lane import LaneTransport, Turn
from adapters.transport.uvicorn_stream import STREAM, StreamLane
from application.disconnects import Disconnect
from application.ports.transport import Receive, Transport, TransportListener

Stamp = Callable[[bytes], bytes]


class StreamOpener:
    """One for all streams."""

    def __init__(self, limit: int, silence: float) -> None:
        """`limit`: bytes of backlog over which a peer counts as too slow. `silence`: seconds for
        which a peer may acknowledge nothing, where the server lets us see that."""
        self._limit = limit
        self._silence = silence
        self._turn = Turn()

    async def __call__(
        self,
        scope: Mapping[str, Any],
        receive: AsgiReceive,
        send: Send,
        headers: list[tuple[bytes, bytes]],
        stamp: Stamp | None,
    ) -> Transport:
        """Send the head of the response, and return what carries the rest. With a stamp all that
        is pushed is handed through it."""
        lane = _reserved(scope)
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        transport: Transport
        if lane is None:
            transport = AsgiStream(receive, send, self._limit)
        else:
            lane.take(self._silence)
            transport = LaneTransport(lane, self._turn, self._limit)
        return transport if stamp is None else StampedTransport(transport, stamp)


def _reserved(scope: Mapping[str, Any]) -> StreamLane | None:
    found = (scope.get("extensions") or {}).get(STREAM)
    if found is None:
        return None
    lane: StreamLane = found["stream"]
    return lane if lane.reserve() else None


class StampedTransport(Transport):
    """Another transport, with what is pushed handed through a function first.

    The function is called in the order of the pushes, which is the order on the wire. Farewells
    go out as they are.
    """

    __slots__ = ("_inner", "_stamp")

    def __init__(self, inner: Transport, stamp: Stamp) -> None:
        self._inner = inner
        self._stamp = stamp

    def attach(self, listener: TransportListener) -> None:
        self._inner.attach(listener)

    def push(self, frames: bytes) -> None:
        self._inner.push(self._stamp(frames))

    @property
    def backlog(self) -> int:
        return self._inner.backlog

    @property
    def ready(self) -> bool:
        return self._inner.ready

    @property
    def idle(self) -> bool:
        return self._inner.idle

    def ping(self) -> bool:
        return self._inner.ping()

    def hold(self, seconds: float) -> None:
        self._inner.hold(seconds)

    def heard(self) -> bool:
        return self._inner.heard()

    def close(self, disconnect: Disconnect, farewell: bytes | None, *, discard: bool) -> None:
        self._inner.close(disconnect, farewell, discard=discard)

    async def run(self, receive: Receive) -> int:
        return await self._inner.run(receive)
