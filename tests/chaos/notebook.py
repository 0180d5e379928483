"""What a client knows of its rooms, and writes down of what it is given and told."""

from collections.abc import Sequence
from typing import Any

from tests.chaos.history import AnyEvent, Delivered, End, Told, now

Frame = dict[str, Any]


def op_of(data: object) -> str:
    """Messages are an op, or a list of one and padding."""
    return str(data[0] if isinstance(data, list) and data else data)


class Seat:
    """Where it stands in a room."""

    def __init__(self, room: str) -> None:
        self.room = room
        self.log = ""
        self.seq = 0
        self.joined = False
        self.last = ""  # op of the newest message
        self.told: list[str] = []  # outcomes but `none` and `ok`


class Notebook:
    """One client's."""

    def __init__(self, who: str, rooms: Sequence[str], history: list[AnyEvent]) -> None:
        self.who = who
        self.seats = {room: Seat(room) for room in rooms}
        self._history = history

    @property
    def is_in(self) -> bool:
        return all(seat.joined for seat in self.seats.values())

    def note(self, event: AnyEvent) -> None:
        self._history.append(event)

    def left(self) -> None:
        for seat in self.seats.values():
            seat.joined = False

    def stands(self, seat: Seat, frame: Frame) -> None:
        """A `joined` or a `resync`."""
        recovery, position = frame["recovery"], frame["position"]
        outcome = recovery["outcome"]
        seat.log = position["log"]
        seat.seq = position["seq"] - len(frame["messages"])
        valid_to = recovery.get("valid_to")
        self.note(Told(now(), self.who, seat.room, outcome, seat.log, seat.seq, valid_to))
        if outcome not in ("none", "ok"):
            seat.told.append(outcome)
        for message in frame["messages"]:
            self.given(seat, message)
        seat.joined = True

    def given(self, seat: Seat, message: Frame) -> None:
        seat.log = message.get("log", seat.log)
        seat.seq = message["seq"]
        seat.last = op_of(message["data"])
        self.note(
            Delivered(now(), self.who, seat.room, seat.log, seat.seq, message["id"], seat.last)
        )

    def end(self) -> None:
        """Write down where it stands."""
        for seat in self.seats.values():
            self.note(End(now(), self.who, seat.room, seat.log, seat.seq))
