"""Everything that is counted and measured, in one table: what it is, and its labels.

Names are Prometheus style without prefix and ending. A label has few values, and never names a
room or a user. Values that are known are listed: they are shown from the start with 0, since who
watches a counter must see it go from there to 1.
"""

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple, get_args

from application import disconnects
from application.disconnects import Disconnect
from domain import errors
from domain.orders import Order
from domain.timeline import Outcome

BOUNDS = (
    *(0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025),
    *(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
)
"""The upper bounds of every histogram, in seconds."""


class Kind(Enum):
    """A counter only grows, a gauge is read when somebody looks, and a histogram says how many
    times something took how long."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Measure(NamedTuple):
    """`label` is the name of the one label a counter may have, `values` what is known of it.
    `shared`: it is there only where nodes share a store."""

    kind: Kind
    help: str
    label: str = ""
    values: tuple[str, ...] = ()
    shared: bool = False


def _counter(
    text: str, label: str = "", values: tuple[str, ...] = (), *, shared: bool = False
) -> Measure:
    return Measure(Kind.COUNTER, text, label, values, shared)


def _gauge(text: str) -> Measure:
    return Measure(Kind.GAUGE, text)


def _histogram(text: str, *, shared: bool = False) -> Measure:
    return Measure(Kind.HISTOGRAM, text, shared=shared)


_OURS = tuple(str(code.code) for code in vars(disconnects).values() if isinstance(code, Disconnect))
_THEIRS = ("1000", "1001", "1005", "1006", "1009")  # a client's own goodbye, or none

_NO_ROOM = (
    *("connections", "unauthenticated", "rush"),
    *("address", "address_unauthenticated", "address_rush"),
)
_AT_THE_DOOR = tuple(
    error.code
    for error in (
        *(errors.TokenMissing, errors.TokenInvalid, errors.TokenExpired, errors.TokenRevoked),
        *(errors.Forbidden, errors.NotGranted, errors.BadName, errors.OverCapacity),
        errors.Unavailable,
    )
)

MEASURES: Mapping[str, Measure] = {
    "sessions": _gauge("Connections that somebody is on now, at any door."),
    "users": _gauge("Users with at least one session here."),
    "rooms": _gauge("Rooms with somebody connected here."),
    "history_rooms": _gauge("Rooms whose log is kept on this node."),
    "history_bytes": _gauge("Bytes of the messages in those logs."),
    "outbox_bytes": _gauge("Bytes that wait to be taken by clients, over all sessions."),
    "outboxes_over_half": _gauge(
        "Sessions for which more waits than half of what they are allowed: the next to be cut."
    ),
    "sessions_opened": _counter("Connections that were let in."),
    "disconnects": _counter(
        "Sessions that ended, by close code: 1006 is lost without a goodbye, 4102 cut for not "
        "reading fast enough.",
        "code",
        (*_THEIRS, *_OURS, "other"),
    ),
    "refused_connections": _counter(
        "Connections that were not let in, by cause.",
        "cause",
        ("origin", "draining", *_NO_ROOM, "no_such_door", *_AT_THE_DOOR),
    ),
    "refused_rooms": _counter(
        "Joins that would have opened a room where there are as many as there may be."
    ),
    "commands": _counter(
        "What clients asked for at /v1/ws besides publishing.",
        "kind",
        ("auth", "history", "join", "leave", "members", "ping", "pong"),
    ),
    "messages_published": _counter(
        "Messages handed over to be published, from connections and requests.",
        "kind",
        ("numbered", "ephemeral"),
    ),
    "publish_failures": _counter(
        "Messages that the store did not take, by error: unavailable is not done, unknown perhaps.",
        "code",
        (errors.Unavailable.code, errors.OutcomeUnknown.code),
        shared=True,
    ),
    "deliveries": _counter(
        "Frames sent to members of rooms: messages, and notices of who comes and goes.",
        "kind",
        ("message", "notice"),
    ),
    "conflated": _counter("Messages left out for members of conflating rooms that lagged."),
    "rate_limited": _counter(
        "Refusals of those who were too fast, by the limit that they hit.",
        "limit",
        ("messages", "commands", "room"),
    ),
    "recoveries": _counter(
        "Joins, by what became of the position that was handed in.",
        "outcome",
        tuple(outcome.value for outcome in Outcome),
    ),
    "resyncs": _counter(
        "Rooms or members whose numbering had to be begun again: interrupted by the store, or "
        "overtaken by the log in catchup.",
        "cause",
        ("catchup", "interrupted"),
    ),
    "orders": _counter(
        "Orders about users that were carried out, by kind.",
        "kind",
        tuple(order.kind for order in get_args(Order)),
    ),
    "key_fetches": _counter(
        "Fetches of the issuer's keys (JWKS), by outcome.", "outcome", ("ok", "failed")
    ),
    "publish_seconds": _histogram(
        "From a message handed over to its receipt; at most one in a millisecond is measured."
    ),
    "fan_out_seconds": _histogram(
        "From the first message of a turn of the event loop to all of its members written to; at "
        "most one turn in a millisecond is measured. Not of conflating rooms, nor with echo: false."
    ),
    "event_loop_lag_seconds": _histogram("How late a timer fired, four times a second."),
    "broker_lag_seconds": _histogram(
        "From a message published, by the clock of that node, to its arrival here, exact to a "
        "millisecond; at most one in a millisecond is measured.",
        shared=True,
    ),
    "feed_losses": _counter("Subscriptions to rooms that may have missed something.", shared=True),
    "feed_resyncs": _counter(
        "Rooms read again because something may have been missed.",
        "outcome",
        ("continued", "begun_again"),
        shared=True,
    ),
    "presence_rereads": _counter(
        "Rooms whose members had to be read again, by cause.",
        "cause",
        ("audit", "failed", "gap", "late", "lease", "lost", "other", "record", "store"),
        shared=True,
    ),
    "unreadable_records": _counter(
        "Records in the store that this version cannot read: of a newer one, or none of ours.",
        "kind",
        ("newer", "junk"),
        shared=True,
    ),
}


def local() -> Mapping[str, Measure]:
    """Those of a node that shares nothing with others."""
    return {name: measure for name, measure in MEASURES.items() if not measure.shared}
