"""Event streams in PROTOCOL.md against the code: each labelled event is produced byte by byte."""

import re
from functools import partial
from inspect import getmembers, isfunction
from pathlib import Path

import pytest

from application.disconnects import RESTARTING
from application.join_room import Joined
from application.ports.encoding import Dialect
from domain.errors import TokenExpired
from domain.identifiers import RoomId, SessionId, UserId
from domain.message import Message
from domain.position import Position
from domain.timeline import Outcome, Recovery, Replay
from entrypoints.http.event_request import MAX_ROOMS
from entrypoints.wire import replies
from entrypoints.wire.errors import wire_of
from entrypoints.wire.event_ids import MAX_BYTES, Stamps, mark_of
from entrypoints.wire.events import Events, farewell, opening

PAGE = (Path(__file__).parents[2] / "PROTOCOL.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("\n## 13. ")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"^```sse name=(\S+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)

GENERAL, NEWS, ANN, BOB = RoomId("chat:general"), RoomId("news"), UserId("ann"), UserId("bob")
LOG, LOG_OF_NEWS = "9f1c33.5be0", "a41b07.5be0"
ALONE, SEVERAL = Events(alone=True, presence=True), Events(alone=False, presence=True)

HI = Message(GENERAL, 43, "b2c3d4e7", ANN, b'{"text":"hi"}', 1767225602.125, LOG)
TYPING = Message(GENERAL, 0, "", BOB, b'{"typing":true}', 1767225604.0, LOG)
MISSED = Replay(Recovery(Outcome.OK), [HI], Position.parse(LOG, 43), more=False)


def connected() -> bytes:
    limits = {"rooms": MAX_ROOMS}
    return opening(1.73, replies.connected(SessionId("kq3V0m9w1ZpT4x7c"), ANN, 25.0, None, limits))


def joined() -> bytes:
    return (
        ALONE.joined(Joined(GENERAL, MISSED, None, newcomer=True)).partition(b"\n\n")[0] + b"\n\n"
    )


def stamped(event: bytes | None) -> bytes:
    """As in a stream of two rooms, seven messages into the other one."""
    assert event is not None
    marks = (mark_of(LOG, 42), mark_of(LOG_OF_NEWS, 7))
    return Stamps().stamp((GENERAL, NEWS), marks)(event)


def refused() -> bytes:
    close = wire_of(TokenExpired("the token has expired")).close
    assert close is not None
    return farewell(close, [mark_of(LOG, 43)])


EVENTS: dict[str, "partial[bytes]"] = {
    "events.connected": partial(connected),
    "events.joined": partial(joined),
    "events.message": partial(ALONE.message, HI),
    "events.message.ephemeral": partial(ALONE.message, TYPING),
    "events.message.rooms": partial(stamped, SEVERAL.message(HI)),
    "events.ping": partial(ALONE.ping),
    "events.removed": partial(stamped, SEVERAL.removed(GENERAL, "kicked", "be nice")),
    "events.disconnect": partial(ALONE.disconnect, RESTARTING._replace(reconnect_after=2.5)),
    "events.disconnect.final": partial(refused),
}
# Told in the words of section 6 and of `joined`, and never.
IN_PROSE = {"presence_change", "presence_summary", "resync", "error"}


def test_every_block_has_a_test_and_every_test_a_block() -> None:
    assert sorted(name for name, _ in BLOCKS) == sorted(EVENTS)


@pytest.mark.parametrize("label", EVENTS)
def test_an_event_is_produced(label: str) -> None:
    assert EVENTS[label]().decode() == dict(BLOCKS)[label] + "\n"


def test_every_kind_of_event_has_its_place() -> None:
    kinds = {name for name, _ in getmembers(Dialect, isfunction) if not name.startswith("_")}
    shown = {"joined" if label == "events.joined" else label.split(".")[1] for label in EVENTS}
    assert {name for name in kinds if name.split("_")[0] not in shown} == IN_PROSE
    for name in ("resync", "join", "leave", "presence"):
        assert f"`{name}`" in SECTION


def test_the_section_names_the_limits() -> None:
    assert f"1 to {MAX_ROOMS} of them" in SECTION
    assert f"at\nmost {MAX_BYTES} bytes" in SECTION
