"""Telling Redis how many sessions of a user this node holds.

An absolute number, said after every change and again until it got through: whatever is lost,
repeated or done late, the last word counts.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from adapters.redis.lease import Lease
from adapters.redis.link import Word
from adapters.redis.presence_agenda import Agenda
from adapters.redis.presence_records import Said
from adapters.redis.presence_room import AttendedRoom, Seat
from adapters.redis.presence_scripts import SEAT
from adapters.redis.store import Store
from domain.errors import HubbubError
from domain.identifiers import SessionId, UserId

# What may have happened; see scripts/presence_seat.lua.
JOINED, GRACED, ABSENT, FULL, OTHER = b"joined", b"graced", b"absent", b"full", b"other"

PAUSE = 0.5  # seconds before something is said again that could not be said
_MAX_AGAIN = 1000  # seats of a room spoken of again at a time


class Entering:
    """A session that waits to be let in. It is taken from its seat again if it is not."""

    __slots__ = ("answer", "is_new", "max_members", "session")

    def __init__(self, session: SessionId, is_new: bool, max_members: int | None) -> None:
        self.session = session
        self.is_new = is_new
        self.max_members = max_members
        loop = asyncio.get_running_loop()
        self.answer: asyncio.Future[Said | HubbubError] = loop.create_future()


class Seating:
    """Speaks for the seats of all rooms. `grace` is in seconds."""

    def __init__(self, store: Store, lease: Lease, agenda: Agenda, grace: float) -> None:
        self._store = store
        self._lease = lease
        self._agenda = agenda
        self._grace = grace

    def say(
        self, room: AttendedRoom, user: UserId, seat: Seat, entering: Entering | None = None
    ) -> None:
        """Say how many sessions there are now."""
        seat.calls += 1
        sent = 0

        def arguments(attempt: int) -> Sequence[Word]:
            # When it may have been done already, what is true by now is as good and tells less.
            nonlocal sent
            sent = len(seat.sessions)
            return self._arguments(room, user, seat, entering)

        def done(outcome: Any) -> None:
            seat.calls -= 1
            answer = outcome if isinstance(outcome, HubbubError) else Said(*outcome)
            self._note(room, seat, sent, answer)
            if entering is not None:
                _let_in(seat, entering, answer)
            room.tidy(user, seat)
            if room.unsettled or not room.seats:
                self._agenda.settle(room, PAUSE if isinstance(answer, HubbubError) else 0.0)

        self._store.submit(SEAT, room.keys, arguments, done, patient=entering is None)

    def say_again(self, room: AttendedRoom) -> None:
        """Say what did not get through, or is not true any more."""
        for user in list(room.unsettled)[:_MAX_AGAIN]:
            room.unsettled.discard(user)
            seat = room.seats.get(user)
            if seat is not None and seat.calls == 0:
                if seat.settled:
                    room.tidy(user, seat)
                else:
                    self.say(room, user, seat)

    def _arguments(
        self, room: AttendedRoom, user: UserId, seat: Seat, entering: Entering | None
    ) -> Sequence[Word]:
        most = None if entering is None else entering.max_members
        return (
            self._store.publish_command,
            room.feed,
            self._lease.node,
            self._lease.former,
            room.replica.life,
            user,
            len(seat.sessions),
            seat.info,
            0 if entering is None else 1,
            "" if most is None else most,
            0 if seat.clean else int(self._grace * 1000),
        )

    def _note(self, room: AttendedRoom, seat: Seat, sent: int, answer: Said | HubbubError) -> None:
        if isinstance(answer, HubbubError):
            seat.held = None
            return
        if answer.happened == OTHER:
            seat.held = None
            self._agenda.reread(room, "other")
            return
        seat.held = 0 if answer.happened in (FULL, ABSENT, GRACED) else sent
        if answer.life:
            self._agenda.expect(room, answer.life, answer.revision)
        if answer.happened == GRACED:
            self._agenda.grace(room.id, self._grace)


def _let_in(seat: Seat, entering: Entering, answer: Said | HubbubError) -> None:
    refused = isinstance(answer, HubbubError) or answer.happened in (FULL, OTHER)
    if refused and entering.is_new and entering.session in seat.sessions:
        seat.sessions.remove(entering.session)
        seat.clean = True
    if not entering.answer.done():
        entering.answer.set_result(answer)
