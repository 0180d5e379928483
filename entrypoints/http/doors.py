"""Every WebSocket door, and what is said there. Shapes are the types that decode what comes in
(`wire/inbound.py`), and those that tests hold against what goes out (`wire/shapes.py`)."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from msgspec import Struct

from entrypoints.wire import inbound, shapes

Schema = dict[str, Any]


class Said(NamedTuple):
    """One kind of frame. `shape` is a type of frames, or a schema for what is no object of ours."""

    name: str
    title: str
    shape: type[Struct] | Schema
    binary: bool = False


class Asked(NamedTuple):
    """A frame from the client, and the frames of which one answers it."""

    frame: Said
    answers: Sequence[Said]


class DoorShown(NamedTuple):
    """`name` is that of its channel. `pushed` are frames that come of their own accord."""

    name: str
    path: str
    title: str
    asked: Sequence[Asked]
    pushed: Sequence[Said]
    query: Mapping[str, str]


def _in(name: str, title: str, shape: type[Struct] | Schema) -> Said:
    return Said(f"client.{name}", title, shape)


def _out(name: str, title: str, shape: type[Struct] | Schema) -> Said:
    return Said(name, title, shape)


_ANY: Schema = {"description": "Any JSON value."}
_TEXT: Schema = {
    "type": "object",
    "description": "`text` is any JSON value, null where it is missing.",
    "properties": {"text": {}},
}
_PONG: Schema = {
    "type": "object",
    "required": ["type"],
    "properties": {"type": {"const": "pong"}},
}
_BYTES = Said("bytes", "Any bytes", {"type": "string", "format": "binary"}, binary=True)

_ERROR = _out("error", "A frame was refused or failed", shapes.Error)
_WELCOME = _out("connected", "Who you are, and what holds here", shapes.Connected)
_AUTH = _in("auth", "A token, at the beginning or before it expires", inbound.Auth)
_MAIN = (
    Asked(
        _AUTH,
        (_WELCOME, _out("ack.auth", "The newer token was accepted", shapes.Refreshed), _ERROR),
    ),
    Asked(
        _in("join", "Enter a room, from a position on", inbound.Join),
        (_out("joined", "Where you stand in the room, and who is there", shapes.Joined), _ERROR),
    ),
    Asked(
        _in("leave", "Leave a room", inbound.Leave),
        (_out("ack.leave", "You are out", shapes.Left), _ERROR),
    ),
    Asked(
        _in("publish", "Say something in a room", inbound.Publish),
        (
            _out("ack.publish", "It is in the log", shapes.Published),
            _out("ack.ephemeral", "It went out", shapes.Whispered),
            _ERROR,
        ),
    ),
    Asked(
        _in("history", "Read what was said, both ways", inbound.History),
        (_out("history", "A page of messages", shapes.HistoryPage), _ERROR),
    ),
    Asked(
        _in("members", "Read who is there", inbound.Members),
        (_out("members", "A page of members", shapes.MembersPage), _ERROR),
    ),
    Asked(
        _in("ping", "Ask for a sign of life", inbound.Ping),
        (_out("pong", "A sign of life", shapes.Pong), _ERROR),
    ),
    Asked(_in("pong", "A sign of life", inbound.Pong), ()),
)
_MAIN_PUSHES = (
    _WELCOME,
    _out("joined", "Where you stand in a room you were put into", shapes.Joined),
    _out("message", "Somebody said something", shapes.Message),
    _out("message.ephemeral", "Somebody said something that is not kept", shapes.Ephemeral),
    _out("join", "A user came", shapes.Join),
    _out("leave", "A user left", shapes.Leave),
    _out("presence", "How many are in a crowded room", shapes.Presence),
    _out("resync", "What to believe after the numbering broke", shapes.Resync),
    _out("removed", "You were taken out of a room", shapes.Removed),
    _out("ping", "A sign of life", shapes.Ping),
    _out("disconnect", "Why the connection is about to be closed", shapes.Disconnect),
    _ERROR,
)
_LOBBY_PUSHES = (
    _out("lobby.join", "A user came; a newcomer sees its own", shapes.LobbyJoin),
    _out("lobby.leave", "A user left", shapes.LobbyLeave),
    _out("lobby.message", "Somebody said something", shapes.LobbyMessage),
    _out("lobby.resync", "What to believe after the numbering broke", shapes.LobbyResync),
    _ERROR,
)
_TEXT_PUSHES = (
    _out("text.message", "Somebody said something", shapes.TextMessage),
    _out("text.resync", "What to believe after the numbering broke", shapes.TextResync),
    _ERROR,
)
_ROOM_PUSHES = (
    _out("room.join", "Somebody else came", shapes.RoomJoin),
    _out("room.leave", "A user left", shapes.RoomLeave),
    *_TEXT_PUSHES,
)
_RECEIVED = (_out("ack.received", "What arrived", shapes.Received), _ERROR)

_HELLO = Asked(_AUTH, ())  # where tokens are asked for, and none came with the upgrade request
_ANYTHING = _in("any", "Any JSON", _ANY)
_SAY_TEXT = _in("text", "A text for everybody", _TEXT)
_TOKEN = {"token": "A JWT, where tokens are asked for. Better as a subprotocol `bearer.<jwt>`."}

DOORS = (
    DoorShown(
        "main",
        "/v1/ws",
        "Any number of rooms on one connection",
        _MAIN,
        _MAIN_PUSHES,
        {"user": "Your name, where users name themselves.", **_TOKEN},
    ),
    DoorShown(
        "echo",
        "/ws",
        "Echo of JSON",
        (_HELLO, Asked(_ANYTHING, (_out("echo", "The same, and when", shapes.Echo), _ERROR))),
        (),
        _TOKEN,
    ),
    DoorShown(
        "binary",
        "/ws/binary",
        "Echo of bytes",
        (_HELLO, Asked(_BYTES, (_BYTES, _ERROR))),
        (),
        _TOKEN,
    ),
    DoorShown(
        "lobby",
        "/ws/{client_id}",
        "Everybody connected here",
        (_HELLO, Asked(_ANYTHING, ())),
        _LOBBY_PUSHES,
        _TOKEN,
    ),
    DoorShown(
        "room",
        "/ws/rooms/{room_id}/{user_id}",
        "One room",
        (_HELLO, Asked(_SAY_TEXT, ())),
        _ROOM_PUSHES,
        _TOKEN,
    ),
    DoorShown(
        "scalable",
        "/ws/scalable/{client_id}",
        "One chat for everybody",
        (_HELLO, Asked(_SAY_TEXT, ())),
        _TEXT_PUSHES,
        _TOKEN,
    ),
    DoorShown(
        "secure",
        "/ws/secure",
        "Only with a token",
        (Asked(_ANYTHING, _RECEIVED),),
        (_out("welcome", "The token was good", shapes.Welcome), _ERROR),
        _TOKEN,
    ),
    DoorShown(
        "heartbeat",
        "/ws/heartbeat/{client_id}",
        "A ping to answer, and the end for who does not",
        (
            _HELLO,
            Asked(_in("alive", "The answer to a ping", _PONG), ()),
            Asked(_ANYTHING, _RECEIVED),
        ),
        (_out("ping", "A sign of life", shapes.Ping), _ERROR),
        _TOKEN,
    ),
)


def frames(door: DoorShown) -> dict[str, Said]:
    """Every kind of frame at a door, by its name."""
    found = [*door.pushed]
    for asked in door.asked:
        found += [asked.frame, *asked.answers]
    return {said.name: said for said in found}
