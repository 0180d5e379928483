"""`python -m tests.benchmarks.without STEP serve ...`: hubbub without one step of its fast lane.

The patches live here; the server knows nothing of them. Each leaves the server correct: everybody
still gets everything once and in order, at a higher price.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from types import SimpleNamespace
from typing import NamedTuple
from unittest.mock import patch

from uvicorn.config import LOOP_FACTORIES
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from adapters.transport.lane import LaneTransport
from adapters.transport.uvicorn_ws import LaneProtocol
from application.fan_out import FanOut
from application.live_room import Group, LiveRoom
from application.ports.transport import Receive
from domain.message import Message
from entrypoints import cli
from entrypoints import server as server_module
from entrypoints.container import Container


@contextmanager
def _portable() -> Iterator[None]:
    http, websocket = Container.http_protocol, Container.websocket_protocol
    with http.override(HttpToolsProtocol), websocket.override(WebSocketsSansIOProtocol):
        yield


def _push_at_once(self: LaneTransport, frames: bytes) -> None:
    if self._taking:
        self._queue.append(frames)
        self._queued += len(frames)
        self.flush()


def _queue_at_once(self: Group, frame: bytes) -> bool:
    first = not self._sent  # since the last flush, which is what counts deliveries
    self._pending.append(frame)
    self._size += len(frame)
    self._send()
    return first


def _no_socket(self: LaneProtocol) -> None:
    """What `Lane.socket_fd` says where bytes may not be written to the socket directly."""


def _no_whole_frames(self: LaneProtocol, data: bytes, receive: Receive) -> int:
    return 0


_deliver = FanOut.deliver


def _deliver_dearly(self: FanOut, live: LiveRoom, message: Message) -> None:
    for group in live.groups.values():
        for _ in range(len(group.transports) - 1):
            group.dialect.message(message)
    _deliver(self, live, message)


@contextmanager
def _neither_joined() -> Iterator[None]:
    with ExitStack() as undone:
        undone.enter_context(patch.object(LaneTransport, "push", _push_at_once))
        undone.enter_context(patch.object(Group, "queue", _queue_at_once))
        yield


_COLLECTOR = SimpleNamespace(collect=int, freeze=int, set_threshold=lambda *_: None)


class Step(NamedTuple):
    """`about` says what happens instead; inside `undone()` it does."""

    about: str
    undone: Callable[[], AbstractContextManager[object]]


STEPS: dict[str, Step] = {
    "nothing": Step("hubbub as it is", nullcontext),
    "lane": Step("the portable transport under uvicorn's own protocol classes", _portable),
    "turns": Step(
        "each push is written at once, not joined with others of the loop turn",
        lambda: patch.object(LaneTransport, "push", _push_at_once),
    ),
    "groups": Step(
        "each message goes to the members at once, not joined with others of the loop turn",
        lambda: patch.object(Group, "queue", _queue_at_once),
    ),
    "joining": Step("neither turns nor groups: a write for each message", _neither_joined),
    "descriptors": Step(
        "the event loop's write, not os.write on the socket",
        lambda: patch.object(LaneProtocol, "socket_fd", _no_socket),
    ),
    "whole-texts": Step(
        "the sans-I/O protocol takes every inbound frame apart",
        lambda: patch.object(LaneProtocol, "_take_whole_frames", _no_whole_frames),
    ),
    "shared-frames": Step(
        "a message is encoded for each member, not for each dialect",
        lambda: patch.object(FanOut, "deliver", _deliver_dearly),
    ),
    "listeners": Step(
        "one listener, of which the loop takes one connection in a turn",
        lambda: patch.object(server_module, "_LISTENERS", 1),
    ),
    "gc": Step(
        "the garbage collector as CPython has it",
        lambda: patch.object(server_module, "gc", _COLLECTOR),
    ),
    "uvloop": Step(
        "the event loop of the standard library",
        lambda: patch.dict(LOOP_FACTORIES, auto=LOOP_FACTORIES["asyncio"]),
    ),
}


def main(words: Sequence[str]) -> None:
    """Run hubbub's command line without the step that is named first."""
    step, *rest = words
    sys.argv[1:] = rest
    with STEPS[step].undone():
        cli.main()


if __name__ == "__main__":
    main(sys.argv[1:])
