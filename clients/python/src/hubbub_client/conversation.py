"""What is said on a connection: frames in, frames out, and the rooms in between.

Nothing here waits or touches a socket: the keeper brings in what came and sends what `next` gives.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from hubbub_client.clock import Moment
from hubbub_client.command import Command, Kind, Lost, Outcome, Reply
from hubbub_client.errors import Disconnected, HubbubError, RemovedFromRoom
from hubbub_client.messages import Frame, Position, Removed
from hubbub_client.outbox import Outbox
from hubbub_client.seat import Ended, Seat
from hubbub_client.sender import Sender, ignore
from hubbub_client.stream import Discontinuity

_CLOSED = 1000  # on purpose
_PUSHES = ("message", "resync", "join", "leave", "presence")


class Conversation:
    """`user` is the name the server gave us, None before the first connection. `live`: there is a
    connection on which it has done so. `over`: why there will be no other one. `say` is how to ask
    the server for something."""

    def __init__(
        self,
        outbox: Outbox,
        max_queue: int,
        wake: Callable[[], None],
        seated: Callable[[Seat], None] | None = None,
    ) -> None:
        """`wake` is called when `next` may have something, `seated` with each seat in a room that
        the server has put us into unasked; without it such rooms are passed over."""
        self.seats: dict[str, Seat] = {}
        self.user: str | None = None
        self.live = False
        self.over: Disconnected | None = None
        self._outbox = outbox
        self._max_queue = max_queue
        self.say = Sender(outbox, wake)
        self._wake = wake
        self._seated = seated
        self._joining: set[str] = set()  # rooms in which everything else has to wait
        self._joins: dict[str, Command] = {}  # the last one for each seat
        self._in_unasked = False  # the server has taken us into our personal room by itself

    # The connection

    def begin(self, frame: Frame) -> None:
        """The server said `connected`."""
        self.user = frame["user_id"]
        limits = frame.get("limits") or {}
        self._outbox.frame_limit = limits.get("frame_bytes")
        for kind, name in ((Kind.PUBLISH, "messages"), (Kind.COMMAND, "commands")):
            rate, burst = limits.get(f"{name}_per_second", 0), limits.get(f"{name}_burst", 1)
            self._outbox.pace(kind, rate, burst)
        self.live = self._in_unasked = True
        for seat in self.seats.values():
            self._ask_to_join(seat)
        self._wake()

    def lost(self) -> None:
        """The connection is over; there will be another one."""
        self.live = False
        self._joining.clear()
        for seat in self.seats.values():
            seat.broken()
        self._outbox.lost()

    def end(self, why: Disconnected) -> None:
        """There will be no other one."""
        self.lost()
        self.over = self.say.over = why
        self._outbox.end(why)
        for seat in self.seats.values():
            seat.end(Ended() if why.close_code == _CLOSED and seat.was_in else why)
        self.seats.clear()

    @property
    def waiting_since(self) -> Moment | None:
        return self._outbox.waiting_since

    def next(self, now: Moment) -> tuple[Command | None, float | None]:
        """As Outbox.next."""
        command, wait = self._outbox.next(now, self._joining)
        if command is not None and command.silent and command.room in self.seats:
            self.seats[command.room].stream.sent_silently()
        return command, wait

    def received(self, frame: Frame, now: Moment) -> None:
        """Act on a frame. Raises Discontinuity."""
        kind = frame.get("type")
        if kind in _PUSHES:
            self._push(frame)
        elif kind == "removed":
            self._removed(frame)
        elif kind == "joined" and "id" not in frame:
            self._put_into(frame)
        else:  # what is no reply either is nobody's
            self._outbox.replied(frame, now)
            self._wake()

    def _push(self, frame: Frame) -> None:
        name = frame["room"]
        seat = self.seats.get(name)
        # Before our join is answered, it is for another membership than the one we mean.
        if seat is not None and name not in self._joining:
            if frame["type"] == "resync":
                self._note_reset(frame)
            seat.push(frame)
            self.follow_up(seat)

    def _note_reset(self, frame: Frame) -> None:
        if frame["recovery"]["outcome"] == "reset":
            self._outbox.keys_forgotten(frame["room"])

    # Commands

    def publish(self, room: str, reply: Reply, /, **fields: object) -> Command:
        """Have a message published: until it is answered if it has a key."""
        if fields.get("echo") is False:
            reply = partial(self._placed, room, reply)
        return self.say.publish(room, reply, **fields)

    def _placed(self, room: str, reply: Reply, outcome: Outcome) -> None:
        """What is published without echo takes its place in the stream by its ack."""
        seat = self.seats.get(room)
        if seat is not None and not isinstance(outcome, Lost):
            seat.stream.acknowledged(Position.of(outcome) if isinstance(outcome, dict) else None)
        reply(outcome)

    # Rooms

    def sit(self, name: str, history: int, position: Position | None) -> Seat:
        """A seat in a room: the one that is there, or one that is on its way."""
        seat = self.seats.get(name)
        if seat is None:
            seat = self.seats[name] = Seat(name, self._max_queue, position, history)
            if self.live:
                self._ask_to_join(seat)
        return seat

    def rise(self, seat: Seat, reply: Reply | None = None) -> bool:
        """Give up a seat. Returns whether the server is told, and `reply` will be called."""
        if self.seats.get(seat.name) is not seat:
            return False
        join = self._joins.get(seat.name)
        self._drop(seat)
        if join is not None:  # refused for a while, it would come through behind the leave
            self.say.withdraw(join)
        seat.end(Ended())
        if self.live:
            self.say.command("leave", reply or ignore, seat.name)
        return self.live

    def reaches(self, room: str) -> bool:
        """Whether what is published now goes out now."""
        return self.live and room not in self._joining

    def takes(self, room: str, now: Moment) -> bool:
        """Whether something that is not to wait may be published."""
        return self.reaches(room) and self._outbox.takes(Kind.PUBLISH, now)

    def follow_up(self, seat: Seat) -> None:
        """Ask for what a room needs to go on."""
        if not self.reaches(seat.name):
            return
        if seat.stream.wants_page and not seat.paging:
            seat.paging = True
            request = seat.stream.page_request()
            self.say.command("history", partial(self._paged, seat), seat.name, **request)
        asked = seat.roster.asks
        if asked is not None and not seat.asking:
            seat.asking = True
            self.say.command("members", partial(self._listed, seat), seat.name, **asked)

    def _ask_to_join(self, seat: Seat) -> None:
        if self._in_unasked and seat.name == f"@{self.user}":
            # Joined anew it is a room like any other: first what we missed, then what is new.
            self._in_unasked = False
            self.say.command("leave", ignore, seat.name)
        self._joining.add(seat.name)
        position = seat.stream.position
        fields: dict[str, Any] = {"history": seat.history} if seat.history else {}
        if position is not None:
            fields["position"] = position.frame()
        joined = partial(self._joined, seat)
        self._joins[seat.name] = self.say.command("join", joined, seat.name, **fields)

    def _joined(self, seat: Seat, reply: Outcome) -> None:
        if isinstance(reply, Lost):
            return
        if self.seats.get(seat.name) is not seat:
            self._let_in_too_late(seat.name, reply)
            return
        self._joining.discard(seat.name)
        if isinstance(reply, HubbubError):
            self._kept_out(seat, reply)
        else:
            self._note_reset(reply)
            seat.joined(reply)
            self.follow_up(seat)

    def _let_in_too_late(self, name: str, reply: Outcome) -> None:
        """We were told of a removal meanwhile, and would be a member whom nobody knows of."""
        if isinstance(reply, dict) and name not in self.seats:
            self.say.command("leave", ignore, name)

    def _drop(self, seat: Seat) -> None:
        del self.seats[seat.name]
        self._joining.discard(seat.name)
        self._joins.pop(seat.name, None)

    def _kept_out(self, seat: Seat, error: HubbubError) -> None:
        self._drop(seat)
        if seat.was_in:
            removal = Removed(error.code, str(error))
            seat.end(RemovedFromRoom(seat.name, error.code, str(error)), removal)
        else:
            seat.end(error)

    def _put_into(self, frame: Frame) -> None:
        name = frame["room"]
        if name in self._joining and name != f"@{self.user}":
            # What is pushed from here on would be taken for that of another membership.
            raise Discontinuity(f"put into {name} while joining it")
        if self._seated is None or name in self.seats or name == f"@{self.user}":
            return
        seat = self.seats[name] = Seat(name, self._max_queue)
        seat.joined(frame)
        self._seated(seat)

    def _removed(self, frame: Frame) -> None:
        seat = self.seats.get(frame["room"])
        if seat is not None:
            self._drop(seat)
            removal = Removed(frame["code"], frame["reason"])
            seat.end(RemovedFromRoom(seat.name, removal.code, removal.reason), removal)

    def _paged(self, seat: Seat, reply: Outcome) -> None:
        if isinstance(reply, dict):
            seat.page(reply)
            self.follow_up(seat)
        elif isinstance(reply, HubbubError):
            raise Discontinuity(f"what was left out is not to be had: {reply}")

    def _listed(self, seat: Seat, reply: Outcome) -> None:
        if not isinstance(reply, Lost):
            seat.members(reply if isinstance(reply, dict) else None)
            self.follow_up(seat)
