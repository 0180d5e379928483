"""PROTOCOL.md against the code: every labelled block is decoded or produced here.

A block without a test fails, and so does a kind of frame, an error or a close code without a place
in the page.
"""

import json
import re
from functools import partial
from inspect import getmembers, isfunction
from typing import Any, get_args

import pytest

from application import disconnects
from application.disconnects import RESTARTING, Disconnect
from application.framing import payloads
from application.ports.broadcasting import Published
from application.ports.encoding import Dialect
from domain.errors import HubbubError, NotGranted, OverCapacity, RateLimited
from domain.identifiers import RoomId, SessionId, UserId, personal_room
from domain.member import ChangeKind, Member, PresenceChange, Snapshot
from domain.message import Message
from domain.position import Position
from domain.timeline import Outcome, Page, Recovery, Replay
from entrypoints.wire import replies, tutorial
from entrypoints.wire.errors import wire_of
from entrypoints.wire.inbound import (
    Auth,
    ClientFrame,
    History,
    Join,
    Leave,
    Members,
    Ping,
    Pong,
    PositionFields,
    Publish,
    decode,
    decode_text_object,
)
from entrypoints.wire.v1 import V1
from tests.golden import BLOCKS, GOLDEN, PAGE

GENERAL, ANN, BOB, CLEO = RoomId("chat:general"), UserId("ann"), UserId("bob"), UserId("cleo")
SESSION = SessionId("kq3V0m9w1ZpT4x7c")
TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl"
LOG, LATER_LOG = "9f1c33.5be0", "9f1c33.77aa"
LIMITS: dict[str, float] = {
    "frame_bytes": 65536,
    "rooms": 128,
    "messages_per_second": 100,
    "messages_burst": 200,
    "commands_per_second": 50,
    "commands_burst": 100,
}


def said(
    seq: int,
    message_id: str,
    sender: UserId | None,
    data: Any,
    ts: float,
    log: str = LOG,
    opens_log: bool = False,
) -> Message:
    return Message(GENERAL, seq, message_id, sender, json.dumps(data).encode(), ts, log, opens_log)


def at(seq: int, log: str = LOG) -> Position:
    return Position.parse(log, seq)


def replay(outcome: Outcome, seq: int, messages: list[Message], valid_to: int | None) -> Replay:
    return Replay(Recovery(outcome, valid_to=valid_to), messages, at(seq, LATER_LOG), more=False)


def goodbye(error: HubbubError) -> Disconnect:
    """How somebody is closed who cannot be let in."""
    close = wire_of(error).close
    assert close is not None
    return close


HI = said(43, "b2c3d4e7", ANN, {"text": "hi"}, 1767225602.125)
ANN_ALONE = Member(ANN, b"null", 1)
CLEO_THERE = Member(CLEO, b'{"name":"Cleo"}', 1)
BOB_LOST = Member(BOB, b'{"name":"Bob"}', 0)
TYPING = said(0, "", BOB, {"typing": True}, 1767225604.0)

CLIENT: dict[str, ClientFrame] = {
    "client.auth": Auth(token=TOKEN),
    "client.auth.refresh": Auth(token=TOKEN, id=7),
    "client.join": Join(room="chat:general", history=50, id=1),
    "client.join.position": Join(
        room="chat:general", position=PositionFields(LOG, 42), history=50, id="rejoin-1"
    ),
    "client.leave": Leave(room="chat:general", id=2),
    "client.history": History(room="chat:general", before=41, log=LOG, limit=2, id=3),
    "client.history.after": History(room="chat:general", after=40, id=4),
    "client.members": Members(room="chat:general", limit=2, id=5),
    "client.members.after": Members(room="chat:general", after="cleo", id=6),
    "client.publish": Publish(room="chat:general", data=b'{"text":"hi"}', key="6f1e0a52-1", id=8),
    "client.publish.silent": Publish(room="chat:general", data=b"null", echo=False, id=9),
    "client.publish.ephemeral": Publish(
        room="chat:general", data=b'{"typing":true}', ephemeral=True, id=10
    ),
    "client.pong": Pong(),
    "client.ping": Ping(id=11),
}

v1 = V1()
REPLIES: dict[str, "partial[bytes]"] = {
    "reply.connected": partial(replies.connected, SESSION, ANN, 25.0, 3600.0, LIMITS),
    "reply.connected.open": partial(
        replies.connected, SESSION, UserId("guest-5f2c"), 25.0, None, {"rooms": 128}
    ),
    "reply.ack.auth": partial(replies.authenticated, 7, 3600.0),
    "reply.joined": partial(
        replies.joined,
        1,
        GENERAL,
        at(42),
        Recovery(Outcome.NONE),
        [
            said(41, "b2c3d4e5", BOB, {"text": "hello"}, 1767225600.25),
            said(42, "b2c3d4e6", None, ["any", "JSON", 1], 1767225601.5),
        ],
        more=False,
        snapshot=Snapshot((ANN_ALONE, BOB_LOST), 2, 9),
    ),
    "reply.joined.ok": partial(
        replies.joined,
        "rejoin-1",
        GENERAL,
        at(43),
        Recovery(Outcome.OK),
        [HI],
        more=False,
        snapshot=Snapshot(None, 1250, 3071),
    ),
    "reply.joined.gap": partial(
        replies.joined,
        "rejoin-1",
        GENERAL,
        at(200),
        Recovery(Outcome.GAP, first=200),
        [said(200, "b2c3d584", ANN, "oldest kept", 1767229200.0)],
        more=True,
        snapshot=None,
    ),
    "reply.joined.personal": partial(
        replies.joined,
        None,
        personal_room(ANN),
        at(6, "a41b07.5be0"),
        Recovery(Outcome.NONE),
        [],
        more=False,
        snapshot=None,
    ),
    "reply.ack.leave": partial(replies.left, 2, GENERAL),
    "reply.ack.publish": partial(replies.published, 8, GENERAL, Published(at(43), "b2c3d4e7")),
    "reply.ack.publish.replicated": partial(
        replies.published, 8, GENERAL, Published(at(43), "b2c3d4e7", replicated=True)
    ),
    "reply.ack.publish.duplicate": partial(
        replies.published, 8, GENERAL, Published(at(43), "b2c3d4e7", duplicate=True)
    ),
    "reply.ack.ephemeral": partial(replies.published, 10, GENERAL, Published(None, "")),
    "reply.history": partial(
        replies.history,
        3,
        GENERAL,
        Page(
            LOG,
            [
                said(39, "b2c3d4e3", ANN, 1, 1767225598.0),
                said(40, "b2c3d4e4", BOB, 2, 1767225599.0),
            ],
            more=True,
        ),
    ),
    "reply.members": partial(
        replies.members, 5, GENERAL, [Member(ANN, b"null", 2), CLEO_THERE], 3, 12, more=True
    ),
    "reply.members.off": partial(
        replies.members, 6, RoomId("metrics"), None, None, None, more=False
    ),
    "reply.pong": partial(replies.pong, 11),
}

PUSHES: dict[str, "partial[bytes]"] = {
    "error": partial(v1.error, NotGranted("no grant to publish to chat:staff"), 12),
    "error.retry": partial(v1.error, RateLimited("too fast", retry_after=0.25), 13),
    "push.removed": partial(
        v1.removed,
        RoomId("chat:staff"),
        "not_granted",
        "the new token does not grant joining chat:staff",
    ),
    "push.message": partial(v1.message, HI),
    "push.message.log": partial(
        v1.message,
        said(44, "b2c3d4e8", ANN, "after a failover", 1767225603.0, LATER_LOG, opens_log=True),
    ),
    "push.message.ephemeral": partial(v1.message, TYPING),
    "push.message.skipped": partial(
        v1.message, said(52, "b2c3d4f0", ANN, {"load": 0.7}, 1767225605.0), skipped=7
    ),
    "push.resync": partial(
        v1.resync,
        GENERAL,
        replay(
            Outcome.REWOUND,
            41,
            [said(41, "c0ffee01", BOB, {"text": "another 41"}, 1767225700.0)],
            valid_to=40,
        ),
    ),
    "push.resync.reset": partial(
        v1.resync,
        GENERAL,
        Replay(Recovery(Outcome.RESET), [], at(3, "e07d52.77aa"), more=False),
    ),
    "push.join": partial(
        v1.presence_change,
        PresenceChange(ChangeKind.JOIN, GENERAL, CLEO, b'{"name":"Cleo"}', 3, 10),
    ),
    "push.leave": partial(
        v1.presence_change, PresenceChange(ChangeKind.LEAVE, GENERAL, BOB, b"null", 2, 11)
    ),
    "push.presence": partial(v1.presence_summary, GENERAL, Snapshot(None, 1250, 3071)),
    "push.presence.list": partial(v1.presence_summary, GENERAL, Snapshot((ANN_ALONE,), 1, 4102)),
    "push.ping": partial(v1.ping),
    "push.disconnect": partial(v1.disconnect, RESTARTING._replace(reconnect_after=2.5)),
    "push.disconnect.capacity": partial(
        v1.disconnect, goodbye(OverCapacity("a user may have 100 connections"))
    ),
    "push.disconnect.final": partial(v1.disconnect, Disconnect(4003, "forbidden")),
}

lobby, text_room = tutorial.Lobby(), tutorial.TextRoom()
ANYTHING = b'{"any":"JSON"}'
TUTORIAL: dict[str, "partial[bytes]"] = {
    "tutorial.echo": partial(tutorial.echo, ANYTHING, 1767225600.25),
    "tutorial.lobby.join": partial(
        lobby.presence_change, PresenceChange(ChangeKind.JOIN, GENERAL, ANN, b"null", 3, 1)
    ),
    "tutorial.lobby.leave": partial(
        lobby.presence_change, PresenceChange(ChangeKind.LEAVE, GENERAL, ANN, b"null", 2, 2)
    ),
    "tutorial.lobby.message": partial(
        lobby.message, said(5, "b2c3d4e5", ANN, {"any": "JSON"}, 1767225600.25)
    ),
    "tutorial.room.join": partial(
        text_room.presence_change, PresenceChange(ChangeKind.JOIN, GENERAL, ANN, b"null", 3, 1)
    ),
    "tutorial.room.leave": partial(
        text_room.presence_change, PresenceChange(ChangeKind.LEAVE, GENERAL, ANN, b"null", 2, 2)
    ),
    "tutorial.room.message": partial(text_room.message, HI._replace(data=b'{"text":"hi"}')),
    "tutorial.room.message.data": partial(
        text_room.message, said(44, "b2c3d4e8", BOB, [1, 2], 1767225603.0)._replace(data=b"[1,2]")
    ),
    "tutorial.room.message.skipped": partial(
        text_room.message, HI._replace(data=b'{"text":"hi"}'), skipped=2
    ),
    "tutorial.room.message.ephemeral": partial(
        text_room.message, TYPING._replace(data='{"text":"…"}'.encode())
    ),
    "tutorial.resync": partial(
        lobby.resync,
        RoomId("lobby"),
        replay(
            Outcome.REWOUND, 5, [said(5, "c0ffee02", BOB, "another 5", 1767225700.0)], valid_to=4
        ),
    ),
    "tutorial.connected": partial(tutorial.connected, ANN),
    "tutorial.ack": partial(tutorial.acknowledged, ANYTHING),
    "tutorial.ping": partial(tutorial.ping),
}
TUTORIAL_CLIENT = {"tutorial.client.text": b'{"text":"hi"}'}

SERVER = REPLIES | PUSHES | TUTORIAL


def test_every_block_has_a_test_and_every_test_a_block() -> None:
    assert set(GOLDEN) == set(CLIENT) | set(SERVER) | set(TUTORIAL_CLIENT)
    assert len(BLOCKS) == len(GOLDEN), "a label stands twice"


def test_every_block_of_json_has_a_label() -> None:
    assert re.findall(r"^```json(?! name=\S+$).*$", PAGE, re.MULTILINE) == []


@pytest.mark.parametrize("label", CLIENT)
def test_a_client_frame_is_understood(label: str) -> None:
    assert decode(GOLDEN[label]) == CLIENT[label]


@pytest.mark.parametrize("label", TUTORIAL_CLIENT)
def test_a_tutorial_frame_is_understood(label: str) -> None:
    assert decode_text_object(GOLDEN[label]) == TUTORIAL_CLIENT[label]


@pytest.mark.parametrize("label", SERVER)
def test_a_server_frame_is_produced(label: str) -> None:
    [payload] = payloads(SERVER[label]())
    assert json.loads(payload) == json.loads(GOLDEN[label])
    assert b"\n" not in payload


def producers(table: dict[str, "partial[bytes]"]) -> set[str]:
    return {example.func.__name__ for example in table.values()}


def functions_of(module: Any) -> set[str]:
    """Public functions that a module defines itself."""
    return {
        name
        for name, function in getmembers(module, isfunction)
        if function.__module__ == module.__name__ and not name.startswith("_")
    }


def test_every_kind_of_client_frame_is_shown() -> None:
    assert {type(frame) for frame in CLIENT.values()} == set(get_args(ClientFrame))


def test_every_kind_of_reply_is_shown() -> None:
    assert producers(REPLIES) == functions_of(replies)


def test_every_kind_of_push_is_shown() -> None:
    events = {name for name, _ in getmembers(Dialect, isfunction) if not name.startswith("_")}
    assert producers(PUSHES) == events


def test_every_kind_of_tutorial_frame_is_shown() -> None:
    # What the doors show of the events in rooms; test_wire_tutorial proves that it is all.
    events = {"message", "presence_change", "resync"}
    assert producers(TUTORIAL) == functions_of(tutorial) | events


def first_cells(heading: str) -> list[str]:
    """The first column of the table that begins with `heading`."""
    table = PAGE.split(f"\n| {heading} |", 1)[1].split("\n\n", 1)[0]
    return [line.split("|")[1].strip() for line in table.splitlines()[2:]]


def leaves(root: type[HubbubError]) -> set[type[HubbubError]]:
    children = root.__subclasses__()
    return {root} if not children else set[type[HubbubError]]().union(*map(leaves, children))


def test_every_error_is_listed_and_no_other() -> None:
    listed = [cell.strip("`") for cell in first_cells("code | meaning")]
    assert set(listed) == {leaf.code for leaf in leaves(HubbubError)}
    assert len(listed) == len(set(listed))


def test_every_close_code_of_ours_is_listed_and_no_other() -> None:
    ours = {value.code for value in vars(disconnects).values() if isinstance(value, Disconnect)}
    listed = {int(cell) for cell in first_cells("code | meaning | come back") if cell.isdigit()}
    assert {code for code in listed if code >= 4000} == ours


def test_every_outcome_is_listed_and_no_other() -> None:
    listed = {cell.strip("`") for cell in first_cells("outcome | what happened")}
    assert listed == {outcome.value for outcome in Outcome}
