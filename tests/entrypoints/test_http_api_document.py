"""The OpenAPI document: it says what is so, and a tool that takes it at its word finds nothing."""

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from entrypoints.asgi import create_app
from entrypoints.http.api import examples, shapes
from entrypoints.settings import Settings
from entrypoints.wire.errors import wire_of
from tests.api import KEY, WITH_A_KEY, Api
from tests.running_server import Serve

UNLIMITED = {"limits": {"messages_per_second": 0, "commands_per_second": 0}}
EXAMPLES = 10  # requests of each kind for each operation


def document() -> dict[str, Any]:
    return create_app(Settings()).openapi()


def operations(of: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and description of every operation of the API."""
    for path, methods in of["paths"].items():
        if path.startswith("/v1/"):
            for method, description in methods.items():
                yield method.upper(), path, description


def references(within: object) -> Iterator[str]:
    if isinstance(within, dict):
        for name, value in within.items():
            if name == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(within, list):
        for value in within:
            yield from references(value)


def test_every_shape_that_is_named_is_there() -> None:
    found = document()
    named = set(references(found))
    there = {f"#/components/schemas/{name}" for name in found["components"]["schemas"]}
    assert named
    assert named <= there


def test_every_operation_is_described() -> None:
    for method, path, described in operations(document()):
        where = (method, path)
        assert described["summary"], where
        assert described["description"], where
        assert described["security"] == [{"key": []}], where
        assert described["tags"], where
        good = [status for status in described["responses"] if status.startswith("2")]
        assert len(good) == 1, where
        content = described["responses"][good[0]]["content"]["application/json"]
        assert set(content) == {"schema", "example"}, where
        for status in ("400", "401", "403", "422", "429", "500", "503"):
            refused = described["responses"][status]["content"]["application/json"]
            assert refused["schema"] == {"$ref": "#/components/schemas/Refused"}, where
        if method in ("POST", "PUT") and "requestBody" in described:
            assert described["requestBody"]["content"]["application/json"]["example"], where
            assert "413" in described["responses"], where


def test_errors_are_told_with_the_status_they_have() -> None:
    codes = {error.code: str(wire_of(error("")).status) for error in _errors()}
    for method, path, described in operations(document()):
        for status, answer in described["responses"].items():
            if not status.startswith("2") and status != "422":
                for code in answer["description"].split(", "):
                    assert codes[code.strip("`")] == status, (method, path, code)


def _errors() -> Iterator[Any]:
    from domain import errors

    for found in vars(errors).values():
        if isinstance(found, type) and "code" in vars(found):
            yield found


@pytest.mark.parametrize(
    ("example", "shape"),
    [
        (examples.PUBLISHED, shapes.Published),
        (examples.HISTORY, shapes.HistoryPage),
        (examples.MEMBERS, shapes.MembersPage),
        (examples.ROOMS, shapes.RoomsPage),
        (examples.OPTIONS, shapes.RoomOptions),
        (examples.REFUSED, shapes.Refused),
        (examples.BROADCAST_RESULTS, shapes.BroadcastResults),
        (examples.BATCH_RESULTS, shapes.BatchResults),
    ],
)
def test_an_example_of_an_answer_has_its_shape(
    example: object, shape: type[msgspec.Struct]
) -> None:
    found = msgspec.convert(example, shape)
    assert msgspec.to_builtins(found) == example


async def test_every_answer_has_its_shape(serve: Serve) -> None:
    server = await serve(**WITH_A_KEY, rooms=[{"match": "quiet", "presence": "off"}])
    api = Api(server)
    peer = await server.user("ann")
    for room in ("tea", "quiet"):
        await peer.ask("join", room=room)
        await api("POST", f"/v1/rooms/{room}/messages", {"data": [1, None]})
    ephemeral = {"data": 1, "ephemeral": True}
    asked: list[tuple[str, str, Any, type[msgspec.Struct]]] = [
        ("POST", "/v1/rooms/tea/messages", {"data": 1}, shapes.Published),
        ("POST", "/v1/rooms/tea/messages", ephemeral, shapes.Sent),
        ("GET", "/v1/rooms/tea/messages", ..., shapes.HistoryPage),
        ("GET", "/v1/rooms/tea/members", ..., shapes.MembersPage),
        ("GET", "/v1/rooms/quiet/members", ..., shapes.MembersPage),
        ("GET", "/v1/rooms", ..., shapes.RoomsPage),
        ("GET", "/v1/rooms/tea", ..., shapes.RoomOptions),
        ("PUT", "/v1/rooms/tea/members/bob", ..., shapes.Ordered),
    ]
    for method, path, body, shape in asked:
        answer = await api(method, path, body)
        assert msgspec.to_builtins(msgspec.convert(answer, shape)) == answer, path
    answer = (await api.answer("GET", "/v1/rooms/a b")).json()
    refused = msgspec.convert(answer, shapes.Refused)
    assert refused.error.code == "bad_name"


async def test_every_example_of_a_request_is_taken(serve: Serve) -> None:
    server = await serve(**WITH_A_KEY)
    api = Api(server)
    sent = 0
    for method, path, described in operations((await server.get("/openapi.json")).json()):
        if "requestBody" in described:
            example = described["requestBody"]["content"]["application/json"]["example"]
            filled = path.replace("{room}", "chat:tea").replace("{user}", "ann")
            answer = await api(method, filled, example)
            assert not [r for r in answer.get("results", ()) if "error" in r], (path, answer)
            sent += 1
    assert sent >= 6


@pytest.mark.parametrize("transport", ["lane"])  # it is the same application
@pytest.mark.timeout(180)
async def test_schemathesis_finds_nothing(serve: Serve, tmp_path: Path) -> None:
    """Requests made from the document, right ones and wrong ones, alone and in sequences."""
    server = await serve(**WITH_A_KEY, **UNLIMITED)
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json"),
        *("--header", f"Authorization: Bearer {KEY}", "--include-path-regex", "^/v1/"),
        *("--max-examples", str(EXAMPLES), "--generation-deterministic", "--seed", "1"),
        *("--no-color", "--request-timeout", "30"),
    ]
    environ = {**os.environ, "NO_PROXY": "*", "PYTHONWARNINGS": "ignore"}
    run = await asyncio.create_subprocess_exec(
        *command,
        cwd=tmp_path,
        env=environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    told, _ = await run.communicate()
    assert run.returncode == 0, told.decode()
    assert b"Tested: " in told
    assert server.metric("messages_published_total") > 0
    assert not server.log.errors
