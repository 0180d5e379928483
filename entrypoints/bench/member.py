"""One connection of the Python load generator."""

import asyncio
import struct
from collections.abc import Callable, Sequence
from socket import SO_LINGER, SOL_SOCKET
from typing import cast

from entrypoints.bench.client_frames import (
    CLOSE,
    PING,
    PONG,
    TEXT,
    FrameReader,
    masked,
    upgrade,
    upgraded,
)
from entrypoints.bench.plan import Plan, Step
from entrypoints.bench.tally import Account, Failure, Tally

_HEAD_END = b"\r\n\r\n"
_SHOWN = 400  # characters of what a server says
_CUT = struct.pack("ii", 1, 0)  # no lingering: the other side sees a reset
_NORMAL = (1000).to_bytes(2)
_NO_CODE = 1005


class Member(asyncio.Protocol):
    """From the request for a WebSocket to its end, which is a failure unless it is `leaving`.

    `ready` is done once the steps of the script are.
    """

    def __init__(
        self,
        account: Account,
        plan: Plan,
        tally: Tally,
        script: Sequence[Step],
        authorization: str | None,
        on_failure: Callable[[Failure], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        self.account = account
        self.ready: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self.leaving = False
        self._plan = plan
        self._tally = tally
        self._script = script
        self._step = 0
        self._authorization = authorization
        self._on_failure = on_failure
        self._frames = FrameReader()
        self._head: bytes | None = b""  # of the answer to the upgrade, None once it is there
        self._replies = {reply.received.encode(): reply.answer for reply in plan.replies}
        self._refusal = None if plan.refusal is None else plan.refusal.encode()
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Of that kind by duck typing only, in uvloop.
        self._transport = cast(asyncio.Transport, transport)
        path = self._filled(self._plan.path)
        self._transport.write(upgrade(path, self._plan.host_header, self._authorization))

    def data_received(self, data: bytes) -> None:
        try:
            if self._head is not None:
                data = self._take_head(self._head + data)
            for opcode, payload in self._frames.feed(data):
                if opcode < CLOSE:
                    self._text(payload)
                else:
                    self._control(opcode, payload)
        except Failure as failure:
            self._on_failure(failure)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
        self._over("dropped connection {}")

    def say(self, text: str, marker: str = "") -> None:
        """Send a text, its placeholders filled."""
        self._transport.write(masked(TEXT, self._filled(text, marker).encode()))

    def say_goodbye(self) -> None:
        self.leaving = True
        self._transport.write(masked(CLOSE, _NORMAL))

    def vanish(self) -> None:
        """Be gone without a goodbye."""
        self.leaving = True
        self._transport.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, _CUT)
        self._transport.abort()

    def _filled(self, text: str, marker: str = "") -> str:
        account = self.account
        return (
            text.replace("%d", str(account.index))
            .replace("%r", str(account.index % self._plan.rooms))
            .replace("%p", account.position)
            .replace("%m", marker)
        )

    def _take_head(self, received: bytes) -> bytes:
        head, end, rest = received.partition(_HEAD_END)
        if not end:
            self._head = received
            return b""
        self._head = None
        if not upgraded(head):
            line = head.partition(b"\r\n")[0]
            said = (line + b" " + rest)[:_SHOWN].decode(errors="replace")
            raise Failure(f"the server refused the upgrade of {self._plan.path}: {said}")
        self._go_on()
        return rest

    def _text(self, payload: bytes) -> None:
        found = self._tally.take(self.account, payload)
        entered = self.ready.done()
        # In a frame with several each may have its seq: their order is proved by their numbers.
        if found == 1 and entered:
            self._tally.check_seq(self.account, payload)
        if not entered:
            self._greeting(payload)
        if found:
            return
        if self._refusal is not None and self._refusal in payload:
            raise Failure(f"the server answered {payload[:_SHOWN].decode(errors='replace')}")
        answer = self._replies.get(payload)
        if answer is not None:
            self.say(answer)

    def _greeting(self, payload: bytes) -> None:
        if self._filled(self._script[self._step].text).encode() in payload:
            self._step += 1
            self.account.take_position(payload)
            self._go_on()

    def _go_on(self) -> None:
        """Say what is to be said until something must be heard."""
        while self._step < len(self._script) and self._script[self._step].kind == "say":
            self.say(self._script[self._step].text)
            self._step += 1
        if self._step == len(self._script):
            self.ready.set_result(None)

    def _control(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self._transport.write(masked(PONG, payload))
        elif opcode == CLOSE:
            code = int.from_bytes(payload[:2]) if payload else _NO_CODE
            reason = payload[2:].decode(errors="replace")
            self._over(f"closed connection {{}}: {code} {reason}")
            self._transport.abort()

    def _over(self, how: str) -> None:
        if not self.leaving:
            self.leaving = True
            self._on_failure(Failure(f"the server {how.format(self.account.index)}"))
