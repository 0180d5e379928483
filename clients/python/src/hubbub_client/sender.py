"""Makes frames, and hands them to the outbox."""

import json
from collections.abc import Callable

from hubbub_client.clock import Moment
from hubbub_client.command import Command, Kind, Outcome, Reply
from hubbub_client.errors import Disconnected
from hubbub_client.messages import Frame
from hubbub_client.outbox import Outbox


class Sender:
    """What cannot be sent is answered at once with the error that says why. `over`: there will be
    no other connection."""

    def __init__(self, outbox: Outbox, wake: Callable[[], None]) -> None:
        """`wake` is called when there may be something to send."""
        self.over: Disconnected | None = None
        self._outbox = outbox
        self._wake = wake

    def command(
        self, kind: str, reply: Reply, room: str | None = None, /, **fields: object
    ) -> Command:
        """Have a frame sent that is not repeated once its connection is lost."""
        number = self._outbox.number()
        named = {} if room is None else {"room": room}
        text = _encode({"type": kind, "id": number, **named, **fields})
        urgent = kind != "history"
        return self._send(Command(number, Kind.COMMAND, room, text, reply, urgent=urgent))

    def lasting(self, kind: str, reply: Reply, room: str, /, **fields: object) -> Command:
        """Have a frame sent until it is answered."""
        number = self._outbox.number()
        text = _encode({"type": kind, "id": number, "room": room, **fields})
        return self._send(Command(number, Kind.COMMAND, room, text, reply, lasting=True))

    def publish(self, room: str, reply: Reply, /, **fields: object) -> Command:
        """Have a message published: until it is answered if it has a key. Raises TypeError or
        ValueError for what is no JSON."""
        number = self._outbox.number()
        text = _encode({"type": "publish", "id": number, "room": room, **fields})
        lasting, silent = "key" in fields, fields.get("echo") is False
        how = {"lasting": lasting, "urgent": not lasting, "silent": silent}
        return self._send(Command(number, Kind.PUBLISH, room, text, reply, **how))

    def ping(self) -> None:
        """Ask for a sign of life."""
        self.command("ping", ignore)

    def withdraw(self, command: Command) -> None:
        """Forget what nobody waits for any more."""
        self._outbox.withdraw(command)
        self._wake()

    def _send(self, command: Command) -> Command:
        fault = self.over or self._outbox.fault(command, Moment.now())
        if fault is not None:
            command.reply(fault)
        else:
            self._outbox.add(command)
            self._wake()
        return command


def ignore(outcome: Outcome) -> None:
    """Whatever the answer is, nobody has to know."""


def _encode(frame: Frame) -> str:
    return json.dumps(frame, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
