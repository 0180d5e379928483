"""The AsyncAPI document: whole, true to the frames, and of the doors that there are."""

import json
import re
from collections.abc import Iterator
from copy import deepcopy
from typing import Any, get_args

import pytest
from jsonschema_rs import Draft7Validator, Draft202012Validator, meta
from starlette.routing import WebSocketRoute

from entrypoints.asgi import Hubbub, create_app
from entrypoints.http.asyncapi import asyncapi, payload
from entrypoints.http.doors import DOORS, frames
from entrypoints.settings import Settings
from entrypoints.wire.inbound import ClientFrame
from tests.golden import GOLDEN
from tests.peer import Frame, Peer
from tests.running_server import Serve
from tests.tokens import JWT, token

DOCUMENT = asyncapi()
Schema = dict[str, Any]


def strict() -> Schema:
    """The components, with no field allowed that is not told of."""
    components = deepcopy(DOCUMENT["components"])
    for schema in components["schemas"].values():
        if "properties" in schema:
            schema["additionalProperties"] = False
    return {"components": components}


def validators(door: str) -> dict[str, Draft202012Validator]:
    """What each kind of frame at a door must be like, by its name."""
    (shown,) = (each for each in DOORS if each.name == door)
    return {
        name: Draft202012Validator({**payload(said), **strict()})
        for name, said in frames(shown).items()
    }


AT = {door.name: validators(door.name) for door in DOORS}


def fits(door: str, frame: object, *, sent: bool = False) -> set[str]:
    """The kinds at a door that a frame is of. `sent`: by a client."""
    return {
        name
        for name, validator in AT[door].items()
        if name.startswith("client.") == sent and validator.is_valid(frame)
    }


# The document


def references(part: object) -> Iterator[str]:
    match part:
        case dict():
            if isinstance(part.get("$ref"), str):
                yield part["$ref"]
            for inner in part.values():
                yield from references(inner)
        case list():
            for inner in part:
                yield from references(inner)


def found(reference: str) -> object:
    part: Any = DOCUMENT
    for name in reference.removeprefix("#/").split("/"):
        part = part[name]
    return part


def test_every_reference_leads_somewhere() -> None:
    named = set(references(DOCUMENT))
    assert len(named) > 100
    for reference in named:
        found(reference)


def test_every_shape_is_used() -> None:
    named = set(references(DOCUMENT))
    for kind in ("messages", "schemas"):
        for name in DOCUMENT["components"][kind]:
            assert f"#/components/{kind}/{name}" in named


def test_every_door_is_described_and_no_other() -> None:
    app = create_app(Settings())
    assert isinstance(app, Hubbub)
    routes = app.doors.routes
    doors = {route.path for route in routes if isinstance(route, WebSocketRoute)}
    assert {channel["address"] for channel in DOCUMENT["channels"].values()} == doors


def test_names_in_a_path_are_parameters() -> None:
    for channel in DOCUMENT["channels"].values():
        named = set(re.findall(r"{(\w+)}", channel["address"]))
        assert set(channel.get("parameters", {})) == named


def test_operations_take_and_tell_what_their_channel_has() -> None:
    for operation in DOCUMENT["operations"].values():
        channel = operation["channel"]["$ref"]
        replied = operation.get("reply", {}).get("messages", [])
        for message in (*operation["messages"], *replied):
            assert message["$ref"].startswith(f"{channel}/messages/")


def test_every_kind_of_client_frame_is_described() -> None:
    described = {
        schema["properties"]["type"]["enum"][0]
        for name, schema in DOCUMENT["components"]["schemas"].items()
        if name.startswith("Client") and "type" in schema["properties"]
    }
    assert described == {kind.__name__.lower() for kind in get_args(ClientFrame)}


@pytest.mark.parametrize("name", DOCUMENT["components"]["schemas"])
def test_every_shape_is_a_schema(name: str) -> None:
    schema = DOCUMENT["components"]["schemas"][name]
    meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})
    Draft7Validator({**schema, "components": DOCUMENT["components"]})  # what AsyncAPI builds on


# The frames of the protocol

TUTORIAL = {
    "echo": {"tutorial.echo"},
    "lobby": {"tutorial.lobby.join", "tutorial.lobby.leave", "tutorial.lobby.message"}
    | {"tutorial.resync"},
    "room": {"tutorial.room.join", "tutorial.room.leave"}
    | {f"tutorial.room.message{kind}" for kind in ("", ".data", ".skipped", ".ephemeral")},
    "scalable": {"tutorial.room.message"},
    "secure": {"tutorial.connected", "tutorial.ack"},
    "heartbeat": {"tutorial.ack", "tutorial.ping"},
}
SHOWN = [
    *(("main", label) for label in GOLDEN if not label.startswith(("tutorial", "client"))),
    *((door, label) for door, labels in TUTORIAL.items() for label in sorted(labels)),
]


def test_every_frame_of_the_protocol_is_looked_at() -> None:
    asked = {label for label in GOLDEN if "client." in label}
    assert {label for _, label in SHOWN} | asked == set(GOLDEN)


@pytest.mark.parametrize(("door", "label"), SHOWN)
def test_a_frame_from_the_server_is_of_one_kind(door: str, label: str) -> None:
    assert len(fits(door, json.loads(GOLDEN[label]))) == 1


@pytest.mark.parametrize("label", [label for label in GOLDEN if label.startswith("client.")])
def test_a_frame_from_a_client_is_of_its_kind(label: str) -> None:
    frame = json.loads(GOLDEN[label])
    assert fits("main", frame, sent=True) == {f"client.{frame['type']}"}


def test_a_text_from_a_client_is_described() -> None:
    frame = json.loads(GOLDEN["tutorial.client.text"])
    assert fits("room", frame, sent=True) == {"client.text"}


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "publish", "room": "r"},
        {"type": "publish", "room": "r", "data": 1, "key": ""},
        {"type": "publish", "room": "r", "data": 1, "key": "k", "ephemeral": True},
        {"type": "history", "room": "r", "before": 1, "after": 1},
        {"type": "history", "room": "r", "limit": 0},
        {"type": "join", "room": "r", "position": {"log": "x"}},
        {"type": "join", "id": 1.5, "room": "r"},
        {"type": "nothing"},
    ],
    ids=json.dumps,
)
def test_what_is_refused_is_of_no_kind(frame: Frame) -> None:
    assert fits("main", frame, sent=True) == set()


def test_a_field_too_many_or_too_few_is_noticed() -> None:
    frame = json.loads(GOLDEN["push.message"])
    assert fits("main", {**frame, "surprise": 1}) == set()
    assert fits("main", {name: frame[name] for name in frame if name != "ts"}) == set()


# The frames of a conversation


class Ears:
    """Notes every frame that a peer gets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.heard: list[Frame] = []
        receive = Peer.receive_raw

        async def listen(peer: Peer, *args: Any, **kwargs: Any) -> str | bytes:
            frame = await receive(peer, *args, **kwargs)
            self.heard.append(json.loads(frame))
            return frame

        monkeypatch.setattr(Peer, "receive_raw", listen)

    def kinds(self, door: str) -> set[str]:
        """The kinds of all frames so far, each of exactly one."""
        heard, self.heard = self.heard, []
        kinds = set[str]()
        for frame in heard:
            (kind,) = fits(door, frame)
            kinds.add(kind)
        return kinds


@pytest.fixture
def ears(monkeypatch: pytest.MonkeyPatch) -> Ears:
    return Ears(monkeypatch)


async def test_a_conversation_at_the_main_door(serve: Serve, ears: Ears) -> None:
    server = await serve(rooms=[{"match": "crowd", "presence_limit": 1}])
    ann, _ = await server.member("ann", "tea", history=5)
    bob, _ = await server.member("bob", "tea")
    await ann.expect("join", user="bob")
    await bob.ask("publish", room="tea", data={"text": "hi"}, key="k")
    await bob.ask("publish", room="tea", data={"text": "hi"}, key="k")
    await ann.expect("message", seq=1)
    await bob.ask("publish", room="tea", data=1, ephemeral=True)
    await ann.expect("message", ephemeral=True)
    for ask in ("history", "members", "join"):
        await ann.ask(ask, room="tea")
    await ann.ask("join", room="no such name!")
    await ann.ask("ping")
    await ann.ask("auth", token="any")
    await bob.ask("leave", room="tea")
    await ann.expect("leave", user="bob")
    await ann.ask("join", room="crowd")
    await bob.ask("join", room="crowd")
    await ann.expect("presence", room="crowd")
    await server.request("DELETE", "/v1/rooms/tea/members/ann")
    await ann.expect("removed", room="tea")
    await server.request("POST", "/v1/users/ann/disconnect", json={})
    await ann.closed_after_farewell()
    assert ears.kinds("main") >= {
        *("connected", "joined", "join", "leave", "message", "message.ephemeral", "presence"),
        *("ack.publish", "ack.ephemeral", "ack.leave", "ack.auth", "history", "members", "pong"),
        *("removed", "disconnect", "error"),
    }


async def test_conversations_at_the_other_doors(serve: Serve, ears: Ears) -> None:
    server = await serve(ping_interval=0.2, ping_timeout=30)
    echo = await server.connect("/ws")
    await echo.send({"any": "JSON"})
    await echo.receive()
    await echo.send_raw("no JSON")
    await echo.receive()
    assert ears.kinds("echo") == {"echo", "error"}

    ann, bob = await server.connect("/ws/ann"), await server.connect("/ws/bob")
    for name in ("ann", "bob"):
        await ann.expect("join", user=name)
    await bob.send([1, 2])
    await ann.expect("message")
    await bob.close()
    await ann.expect("leave", user="bob")
    assert ears.kinds("lobby") == {"lobby.join", "lobby.leave", "lobby.message"}

    ann = await server.connect("/ws/rooms/tea/ann")
    bob = await server.connect("/ws/rooms/tea/bob")
    await ann.expect("join", user="bob")
    await bob.send({"text": "hi"})
    await ann.expect("message", text="hi")
    await server.request("POST", "/v1/rooms/tea/messages", json={"data": [1]})
    await ann.expect("message", data=[1])
    await bob.close()
    await ann.expect("leave", user="bob")
    assert ears.kinds("room") == {"room.join", "room.leave", "text.message"}

    beating = await server.connect("/ws/heartbeat/ann")
    await beating.expect("ping")
    await beating.send({"type": "pong"})
    await beating.send({"any": "JSON"})
    await beating.expect("ack")
    assert ears.kinds("heartbeat") == {"ping", "ack.received"}


async def test_a_conversation_with_a_token(serve: Serve, ears: Ears) -> None:
    server = await serve(**JWT)
    secure = await server.connect(f"/ws/secure?token={token('ann')}")
    await secure.expect("connected")
    await secure.send({"any": "JSON"})
    await secure.expect("ack")
    assert ears.kinds("secure") == {"welcome", "ack.received"}


async def test_the_document_is_served(serve: Serve) -> None:
    server = await serve(**JWT)
    answer = await server.get("/asyncapi.json")
    assert answer.status_code == 200
    assert answer.json() == DOCUMENT
