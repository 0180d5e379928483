"""What happened in one run, as JSON lines: everything a verdict is given on.

Times are of `time.monotonic_ns`, which is one clock for all processes of a machine.
"""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

now = time.monotonic_ns


class Event(msgspec.Struct, tag_field="is", omit_defaults=True):
    """`t` is when, `who` is a client's name, `op` names one message somebody wanted published."""


class Invoked(Event, tag="invoke"):
    t: int
    who: str
    op: str
    room: str


class Acked(Event, tag="ok"):
    """It has this place. `again`: it had it before this try. `replicated` is what the answer says
    of that, if anything."""

    t: int
    who: str
    op: str
    log: str
    seq: int
    id: str
    again: bool = False
    replicated: bool | None = None


class Failed(Event, tag="fail"):
    """It was not done, and is not tried any more."""

    t: int
    who: str
    op: str
    code: str


class Unknown(Event, tag="info"):
    """Nobody can say whether it was done, and it is not tried any more."""

    t: int
    who: str
    op: str
    code: str


class Delivered(Event, tag="dlv"):
    """`log` is the one the client believed in once it had this message."""

    t: int
    who: str
    room: str
    log: str
    seq: int
    id: str
    op: str


class Told(Event, tag="told"):
    """An outcome of recovery. The message after it is expected to be `seq` + 1; what lies above
    `valid_to` was withdrawn by it."""

    t: int
    who: str
    room: str
    outcome: str
    log: str
    seq: int
    valid_to: int | None = None


class Cut(Event, tag="cut"):
    """A connection ended; the client's next one begins with what it is told then."""

    t: int
    who: str
    code: int


class Presence(Event, tag="presence"):
    """`kind` is join or leave, `user` whose."""

    t: int
    who: str
    room: str
    kind: str
    user: str
    version: int


class Fault(Event, tag="fault"):
    t: int
    what: str


class End(Event, tag="end"):
    """Where a client stood in a room when everything had become quiet."""

    t: int
    who: str
    room: str
    log: str
    seq: int


class Kept(Event, tag="kept"):
    """A message in the store's own log, read after the end."""

    room: str
    log: str
    seq: int
    id: str
    op: str


AnyEvent = (
    Invoked | Acked | Failed | Unknown | Delivered | Told | Cut | Presence | Fault | End | Kept
)

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(AnyEvent)


def write(path: Path, events: Iterable[AnyEvent]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as lines:
        for event in events:
            lines.write(_encoder.encode(event) + b"\n")


def read(path: Path) -> Iterator[AnyEvent]:
    with path.open("rb") as lines:
        for line in lines:
            yield _decoder.decode(line)
