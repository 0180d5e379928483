"""The AsyncAPI document: every WebSocket door, and what is said there.

Shapes of what comes in are made from the types that decode it (`wire/inbound.py`), those of what
goes out from `wire/shapes.py`, which a test holds against the frames.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from typing import Any, NamedTuple

from msgspec import Struct
from msgspec.json import schema_components

from entrypoints.wire import inbound, shapes

_VERSION = version("hubbub")  # reads files: not while somebody waits
MEDIA_TYPE = "application/json"

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
        _in("publish", "Say something in a room", inbound.PublishFrame),
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

_PATH = {
    "client_id": "The name of the user.",
    "user_id": "The name of the user.",
    "room_id": "The name of the room.",
}
_EXCLUDED: Mapping[str, Schema] = {
    "ClientPublishFrame": {
        "required": ["key", "ephemeral"],
        "properties": {"key": {"type": "string"}, "ephemeral": {"const": True}},
    },
    "ClientHistory": {
        "required": ["before", "after"],
        "properties": {"before": {"type": "integer"}, "after": {"type": "integer"}},
    },
}


@cache
def asyncapi() -> dict[str, Any]:
    """The document, the same each time: not to be changed."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "hubbub",
            "version": _VERSION,
            "description": (
                "Rooms, members and messages over WebSocket. PROTOCOL.md tells what the frames "
                "mean; both sides ignore fields that they do not know."
            ),
            "license": {"name": "Apache 2.0"},
        },
        "defaultContentType": MEDIA_TYPE,
        "servers": {
            scheme: {
                "host": "{address}",
                "protocol": scheme,
                "variables": {"address": {"default": "127.0.0.1:8000"}},
            }
            for scheme in ("ws", "wss")
        },
        "channels": {door.name: _channel(door) for door in DOORS},
        "operations": dict(operation for door in DOORS for operation in _operations(door)),
        "components": {"messages": _messages(), "schemas": schemas()},
    }


def frames(door: DoorShown) -> dict[str, Said]:
    """Every kind of frame at a door, by its name."""
    found = [*door.pushed]
    for asked in door.asked:
        found += [asked.frame, *asked.answers]
    return {said.name: said for said in found}


def schemas() -> dict[str, Schema]:
    """Every shape, by its name in the document: Client… comes in, Server… goes out."""
    said = [said for door in DOORS for said in frames(door).values()]
    found: dict[str, Schema] = {}
    for side in ("Client", "Server"):
        types = {one.shape: None for one in said if _side(one) == side and _is_struct(one.shape)}
        _, made = schema_components(
            list(types), ref_template=f"#/components/schemas/{side}{{name}}"
        )
        found |= {side + name: schema for name, schema in made.items()}
    for schema in found.values():
        if "description" in schema:
            schema["description"] = " ".join(schema["description"].split())
    for name, excluded in _EXCLUDED.items():
        found[name]["not"] = excluded
    return found


def payload(said: Said) -> Schema:
    """The schema of a frame."""
    if isinstance(said.shape, dict):
        return said.shape
    return {"$ref": f"#/components/schemas/{_side(said)}{said.shape.__name__}"}


def _side(said: Said) -> str:
    return "Client" if said.name.startswith("client.") else "Server"


def _is_struct(shape: type[Struct] | Schema) -> bool:
    return not isinstance(shape, dict)


def _messages() -> dict[str, Any]:
    return {
        name: {
            "name": name,
            "title": said.title,
            "contentType": "application/octet-stream" if said.binary else MEDIA_TYPE,
            "payload": payload(said),
        }
        for door in DOORS
        for name, said in frames(door).items()
    }


def _channel(door: DoorShown) -> dict[str, Any]:
    names = [part.strip("{}") for part in door.path.split("/") if part.startswith("{")]
    query = {name: {"type": "string", "description": text} for name, text in door.query.items()}
    found: dict[str, Any] = {
        "address": door.path,
        "title": door.title,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in frames(door)},
        "bindings": {"ws": {"method": "GET", "query": {"type": "object", "properties": query}}},
    }
    if names:
        found["parameters"] = {name: {"description": _PATH[name]} for name in names}
    return found


def _operations(door: DoorShown) -> Iterator[tuple[str, dict[str, Any]]]:
    channel = {"$ref": f"#/channels/{door.name}"}

    def named(said: Sequence[Said]) -> list[dict[str, str]]:
        return [{"$ref": f"#/channels/{door.name}/messages/{one.name}"} for one in said]

    for frame, answers in door.asked:
        told = frame.name.removeprefix("client.")
        operation: dict[str, Any] = {
            "action": "receive",
            "channel": channel,
            "summary": frame.title,
            "messages": named([frame]),
        }
        if answers:
            operation["reply"] = {"channel": channel, "messages": named(answers)}
        yield f"{door.name}.{told}", operation
    if door.pushed:
        yield (
            f"{door.name}.pushed",
            {
                "action": "send",
                "channel": channel,
                "summary": "What comes of its own accord",
                "messages": named(door.pushed),
            },
        )
