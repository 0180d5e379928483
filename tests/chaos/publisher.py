"""A client that publishes and writes down what it wanted and what it was answered."""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress

from tests.chaos.client import Client
from tests.chaos.connection import Connection, Frame
from tests.chaos.history import Acked, AnyEvent, Failed, Invoked, Unknown, now

PATIENCE = 180.0  # seconds a publish is tried, all tries together
_PAUSE = 0.05  # seconds before it is tried again, growing
_LONGEST_PAUSE = 0.5


class Publisher(Client):
    """Every publish has a key of its own and is repeated with it until it is acknowledged. Who is
    `impatient` takes the first answer for the last, which leaves failures and unknown outcomes in
    the history."""

    def __init__(
        self,
        user: str,
        where: Callable[[], int | None],
        history: list[AnyEvent],
        rng: random.Random,
        pace: float = 1.0,
    ) -> None:
        self._history = history
        self._answers: dict[str, asyncio.Future[Frame]] = {}
        self._ready = asyncio.Event()
        self._count = 0
        super().__init__(user, where, rng, pace)

    async def publish(self, room: str, padding: str = "", *, impatient: bool = False) -> str:
        """Returns the op, once its outcome is written down."""
        self._count += 1
        op = f"{self.user}:{self._count}"
        await self.publish_as(op, room, padding, impatient=impatient)
        return op

    async def publish_as(
        self, op: str, room: str, padding: str = "", *, impatient: bool = False
    ) -> None:
        self._history.append(Invoked(now(), self.user, op, room))
        data = [op, padding] if padding else op
        frame: Frame = {"type": "publish", "id": op, "room": room, "data": data, "key": op}
        reply: Frame = {"type": "error", "code": "not_sent"}
        sent, pause = False, _PAUSE
        end = asyncio.get_running_loop().time() + PATIENCE
        while asyncio.get_running_loop().time() < end:
            reply = await self._ask(frame, end)
            if reply["type"] == "ack":
                self._acked(op, reply)
                return
            sent = sent or reply["code"] == "unknown"
            if impatient or not reply.get("retry", True):
                break
            await asyncio.sleep(reply.get("retry_after", pause))
            pause = min(2 * pause, _LONGEST_PAUSE)
        outcome = Unknown if sent else Failed
        self._history.append(outcome(now(), self.user, op, reply["code"]))

    def _acked(self, op: str, ack: Frame) -> None:
        place = (ack["log"], ack["seq"], ack["message_id"], ack["duplicate"], ack.get("replicated"))
        self._history.append(Acked(now(), self.user, op, *place))

    async def _ask(self, frame: Frame, end: float) -> Frame:
        """The answer to one try; an error of our own when the connection ended."""
        try:
            async with asyncio.timeout_at(end):
                await self._ready.wait()
                assert self.connection is not None
                answer: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
                self._answers[frame["id"]] = answer
                self.connection.send(frame)
        except TimeoutError:
            return {"type": "error", "code": "not_sent"}
        with suppress(TimeoutError):
            async with asyncio.timeout_at(end):
                return await answer
        return {"type": "error", "code": "unknown"}

    def begin(self, connection: Connection) -> None:
        self._ready.set()

    def take(self, frame: Frame) -> None:
        if frame["type"] in ("ack", "error"):
            answer = self._answers.pop(frame.get("id", ""), None)
            if answer is not None and not answer.done():
                answer.set_result(frame)

    def lost(self, code: int) -> None:
        self._ready.clear()
        answers, self._answers = self._answers, {}
        for answer in answers.values():
            if not answer.done():
                answer.set_result({"type": "error", "code": "unknown"})
