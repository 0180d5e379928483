"""The AsyncAPI document: every WebSocket door, and what is said there."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from typing import Any

from msgspec import Struct
from msgspec.json import schema_components

from entrypoints.http.doors import DOORS, DoorShown, Said, Schema, frames

_VERSION = version("hubbub")  # reads files: not while somebody waits
MEDIA_TYPE = "application/json"

_PATH = {
    "client_id": "The name of the user.",
    "user_id": "The name of the user.",
    "room_id": "The name of the room.",
}
_EXCLUDED: Mapping[str, Schema] = {
    "ClientPublish": {
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
