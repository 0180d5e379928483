"""What `hubbub bench` can measure."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

from entrypoints.bench.plan import Plan
from entrypoints.bench.target import Dialect


class Name(StrEnum):
    FAN_OUT = "fan-out"
    ROOMS = "rooms"
    CONNECT = "connect"
    IDLE = "idle"
    RESUME = "resume"


_HANDSHAKES = 64  # at a time
_BEFORE_LOSS = 5  # messages that those who return have seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What was asked for. None is left to the scenario."""

    members: int | None = None
    window: int | None = None
    rate: float | None = None
    publishers: int | None = None
    seconds: float = 5.0
    messages: int | None = None
    missed: int = 50
    patience: float = 10.0


class Scenario(NamedTuple):
    """`apply` turns a plan, as `plan_for` begins it, into this scenario's. `phase` is the one that
    counts and `unit` what it counts."""

    about: str
    members: int
    phase: str
    unit: str
    apply: Callable[[Plan, Dialect, Wish], Plan]


def _fan_out(plan: Plan, dialect: Dialect, wish: Wish) -> Plan:
    return replace(
        _publishing(plan, dialect, wish), publishers=min(wish.publishers or 1, plan.connections)
    )


def _rooms(plan: Plan, dialect: Dialect, wish: Wish) -> Plan:
    plan = replace(_publishing(plan, dialect, wish), rooms=plan.connections)
    return replace(plan, publishers=plan.connections, window=wish.window or plan.connections)


def _publishing(plan: Plan, dialect: Dialect, wish: Wish) -> Plan:
    return replace(
        plan,
        publish=dialect.publish,
        window=wish.window or 16,
        rate=wish.rate or 0.0,
        messages=wish.messages or 0,
        seconds=0.0 if wish.messages else wish.seconds,
    )


def _connect(plan: Plan, dialect: Dialect, _: Wish) -> Plan:
    # One room each: joins and leaves that others are told are another matter.
    return replace(plan, enter=dialect.arrive, rooms=plan.connections)


def _idle(plan: Plan, dialect: Dialect, wish: Wish) -> Plan:
    return replace(plan, publish=dialect.publish, hold=wish.seconds)


def _resume(plan: Plan, dialect: Dialect, wish: Wish) -> Plan:
    return replace(
        plan,
        connections=plan.connections + 1,  # somebody stays and publishes
        publish=dialect.publish,
        messages=_BEFORE_LOSS,
        missed=wish.missed,
        again=dialect.again,
        parallel=plan.connections,
    )


SCENARIOS: dict[Name, Scenario] = {
    Name.FAN_OUT: Scenario(
        "one room; everybody gets every message", 1000, "measure", "deliveries", _fan_out
    ),
    Name.ROOMS: Scenario(
        "rooms of one member; a message in and out", 500, "measure", "messages", _rooms
    ),
    Name.CONNECT: Scenario(
        "from nothing to being in a room", 1000, "connect", "connections", _connect
    ),
    Name.IDLE: Scenario(
        "memory and processor time of silent members", 1000, "hold", "members", _idle
    ),
    Name.RESUME: Scenario(
        "all are cut off, come back at once and get what they missed",
        500,
        "return",
        "clients",
        _resume,
    ),
}


def plan_for(name: Name, base: Plan, dialect: Dialect, wish: Wish) -> Plan:
    """The run of a scenario. `base` says where and whose costs."""
    scenario = SCENARIOS[name]
    plan = replace(
        base,
        path=dialect.path,
        enter=dialect.enter,
        refusal=dialect.refusal,
        connections=wish.members or scenario.members,
        parallel=_HANDSHAKES,
        patience=wish.patience,
    )
    return scenario.apply(plan, dialect, wish)
