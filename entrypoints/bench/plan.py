"""What a load generator is told to do, and what it tells.

There are two: generator.c takes a plan as options, python_generator.py as JSON. Both print events
as lines of JSON on stdout, the last one `end` or `failed`.
"""

from dataclasses import dataclass, fields
from typing import Literal, NamedTuple

from msgspec import Struct
from msgspec.json import Decoder

MARKER = 21  # characters
MAX_TEXT = 60_000  # bytes a generator can send in one frame


class Step(NamedTuple):
    """A text to say on a connection, or one that must occur in a frame."""

    kind: Literal["say", "await"]
    text: str


class Reply(NamedTuple):
    """A frame that is answered by another."""

    received: str
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One run. Its phases, as far as they are asked for:

    - `connect`: `parallel` handshakes at a time, each connection through the steps of `enter`;
    - `measure`: `publish` is sent and comes back, at most `window` at a time or `rate` a second,
      until there were `messages` or `seconds` are over;
    - `hold`: nothing is sent for so many seconds;
    - `away`, `return`: all but the publishers are cut off, miss `missed` messages, come back at
      once through the steps of `again`, and must get exactly those.

    Connection n is in room n modulo `rooms`; the first `publishers` take turns. Texts may hold `%d`
    (number of the connection), `%r` (of its room), `%m` (the marker a message is known by) and `%p`
    (the position last told). A frame that holds `refusal` ends the run, and so do `patience`
    seconds without news. `pids` are the processes whose costs are measured.
    """

    host: str = "127.0.0.1"
    port: int
    path: str = "/"
    host_header: str = "127.0.0.1"
    tls: bool = False
    connections: int = 1
    rooms: int = 1
    publishers: int = 1
    parallel: int = 64
    publish: str | None = None
    messages: int = 0
    seconds: float = 0.0
    window: int = 1
    rate: float = 0.0
    missed: int = 0
    hold: float = 0.0
    refusal: str | None = None
    patience: float = 10.0
    pids: tuple[int, ...] = ()
    replies: tuple[Reply, ...] = ()
    enter: tuple[Step, ...] = ()
    again: tuple[Step, ...] = ()

    def options(self) -> list[str]:
        """As the compiled generator reads it, which knows no TLS."""
        words: list[str] = []
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "tls" and isinstance(value, str | int | float):
                words += [f"--{field.name.replace('_', '-')}", str(value)]
        for pid in self.pids:
            words += ["--pid", str(pid)]
        for received, answer in self.replies:
            words += ["--reply", received, answer]
        for step in self.enter:
            words += [f"--{step.kind}", step.text]
        words += ["--again"] * bool(self.again)
        for step in self.again:
            words += [f"--{step.kind}", step.text]
        return words


class _Event(Struct, tag_field="event", tag=str.lower, frozen=True):
    pass


class Progress(_Event, frozen=True):
    phase: str
    done: float
    of: float


class Ceiling(_Event, frozen=True):
    """The deliveries a second that the generator itself could take in."""

    per_second: float


class Latencies(NamedTuple):
    """Milliseconds."""

    p50: float
    p90: float
    p99: float
    max: float


class Phase(_Event, frozen=True):
    """How a phase went. `count` is its connections, deliveries (`measure`, `away`) or members that
    came back; `messages` those published, in `return` those delivered late. Times are seconds of
    the clock or of a processor; `rss_kib` is the server's memory before and after."""

    phase: str
    seconds: float
    count: int
    messages: int
    own_cpu: float
    latency_ms: Latencies | None = None
    server_cpu: float | None = None
    rss_kib: tuple[int, int] | None = None


class Failed(_Event, frozen=True):
    """The run is worth nothing."""

    reason: str


class End(_Event, frozen=True):
    """Everything came, once and in order."""


Event = Progress | Ceiling | Phase | Failed | End

read_event = Decoder(Event).decode
