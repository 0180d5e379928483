"""A user in rooms at `/v1/ws`, who writes down what it is given and told."""

import asyncio
import random
from collections.abc import Callable, Sequence

from tests.chaos.client import Client
from tests.chaos.connection import Connection, Frame
from tests.chaos.history import AnyEvent, Cut, Presence, now
from tests.chaos.notebook import Notebook, Seat

_RETRY = 0.1  # seconds before a refused join is tried again


class Member(Client):
    def __init__(
        self,
        user: str,
        rooms: Sequence[str],
        where: Callable[[], int | None],
        history: list[AnyEvent],
        rng: random.Random,
        pace: float = 1.0,
    ) -> None:
        self.notebook = Notebook(user, rooms, history)
        super().__init__(user, where, rng, pace)

    def begin(self, connection: Connection) -> None:
        for seat in self.notebook.seats.values():
            connection.send(_join(seat))

    def lost(self, code: int) -> None:
        self.notebook.note(Cut(now(), self.user, code))
        self.notebook.left()

    def take(self, frame: Frame) -> None:
        seat = self.notebook.seats.get(frame.get("room", ""))
        match frame["type"]:
            case "message" if seat is not None and "seq" in frame:
                self.notebook.given(seat, frame)
            case "joined" | "resync" if seat is not None:
                self.notebook.stands(seat, frame)
            case "join" | "leave" if seat is not None:
                told = (frame["type"], frame["user"], frame["version"])
                self.notebook.note(Presence(now(), self.user, seat.room, *told))
            case "error":
                self._refused(frame)

    def _refused(self, frame: Frame) -> None:
        seat = self.notebook.seats.get(frame.get("id", ""))
        if seat is None:
            return  # of no join: it says why the connection is about to be closed
        assert frame["retry"], frame
        wait = frame.get("retry_after", _RETRY)
        asyncio.get_running_loop().call_later(wait, self._again, seat)

    def _again(self, seat: Seat) -> None:
        if self.connection is not None and not seat.joined:
            self.connection.send(_join(seat))


def _join(seat: Seat) -> Frame:
    frame: Frame = {"type": "join", "id": seat.room, "room": seat.room}
    if seat.log:
        frame["position"] = {"log": seat.log, "seq": seat.seq}
    return frame
