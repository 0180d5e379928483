"""What a server writes down of its clients: who came, by an id; never what they were let in by."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import httpx
import jwt
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.peer import DEADLINE, Peer, until
from tests.server_process import ServeProcess, ServerProcess
from tests.tokens import OTHER_SECRET, SECRET, claims, token

OPAQUE = "c4nary-0paque"
API_KEY = "c4nary-key-of-a-backend-0123456789"
GUARDED = {
    "HUBBUB_AUTH__MODE": "jwt",
    "HUBBUB_AUTH__HMAC_SECRET": SECRET,
    "HUBBUB_API_KEY": API_KEY,
    "HUBBUB_LOG_LEVEL": "debug",
}
GOOD = token("ann", jti="c4nary-good")
FORGED = jwt.encode(claims("ann"), OTHER_SECRET, algorithm="HS256")
CREDENTIALS = {"good": GOOD, "forged": FORGED, "opaque": OPAQUE}


def entries(process: ServerProcess) -> list[dict[str, Any]]:
    """The lines so far, from a server that writes JSON."""
    return [json.loads(line) for line in process.stderr.splitlines() if line.startswith("{")]


async def line(process: ServerProcess, beginning: str, **fields: object) -> dict[str, Any]:
    """Wait for a line that begins so and has these fields."""

    def found() -> list[dict[str, Any]]:
        return [
            entry
            for entry in entries(process)
            if entry["message"].startswith(beginning) and fields.items() <= entry.items()
        ]

    await until(lambda: bool(found()))
    return found()[0]


async def test_a_connection_has_one_id_from_beginning_to_end(serve_process: ServeProcess) -> None:
    process = await serve_process("--log-format", "json")
    peer = await Peer.connect(f"{process.ws_url}/v1/ws?user=ann")
    known = {"connection": (await peer.expect("connected"))["session_id"]}
    opened = await line(process, "opened", **known)
    assert (opened["door"], opened["user"]) == ("/v1/ws", "ann")
    await peer.close()
    closed = await line(process, "closed with 1000", **known)
    assert (closed["door"], closed["user"], closed["code"]) == ("/v1/ws", "ann", 1000)
    assert 0 <= closed["seconds"] < DEADLINE


async def test_an_event_stream_has_one_as_well(serve_process: ServeProcess) -> None:
    process = await serve_process("--log-format", "json")
    async with (
        httpx.AsyncClient(trust_env=False) as client,
        client.stream("GET", f"{process.url}/v1/events?room=tea&user=ann") as stream,
    ):
        assert stream.status_code == 200
        opened = await line(process, "opened", door="/v1/events")
    closed = await line(process, "closed with 1006", connection=opened["connection"])
    assert closed["user"] == opened["user"]


async def test_who_is_turned_away_has_one_too(serve_process: ServeProcess) -> None:
    process = await serve_process("--log-format", "json", HUBBUB_LIMITS__CONNECTIONS="1")
    with pytest.raises(InvalidStatus):
        await Peer.connect(f"{process.ws_url}/v1/ws", origin="https://evil.example")
    first = await line(process, "refused origin https://evil.example", cause="origin")
    bad = await Peer.connect(f"{process.ws_url}/ws/no%20name")
    await bad.ending()
    second = await line(process, "turned away at /ws/no name", cause="bad_name")
    nowhere = await Peer.connect(f"{process.ws_url}/v2/ws")
    await nowhere.ending()
    third = await line(process, "turned away at /v2/ws", cause="no_such_door")
    inside = await Peer.connect(f"{process.ws_url}/v1/ws")
    await inside.expect("connected")
    with pytest.raises(InvalidStatus):
        await Peer.connect(f"{process.ws_url}/v1/ws")
    fourth = await line(process, "turned away at /v1/ws", cause="connections")
    ids = {entry["connection"] for entry in (first, second, third, fourth)}
    assert len(ids) == 4


async def test_the_console_shows_the_id_in_front(serve_process: ServeProcess) -> None:
    process = await serve_process()
    peer = await Peer.connect(f"{process.ws_url}/v1/ws?user=ann")
    session = (await peer.expect("connected"))["session_id"]
    await until(lambda: f": [{session}] opened at /v1/ws by ann\n" in process.stderr)


# Credentials

Way = Callable[[ServerProcess, str], Awaitable[None]]


async def in_the_query(process: ServerProcess, credential: str) -> None:
    await _tried(f"{process.ws_url}/v1/ws?token={credential}")
    await _tried(f"{process.ws_url}/ws/secure?a=b&token={credential}")


async def in_a_header(process: ServerProcess, credential: str) -> None:
    headers = {"Authorization": f"Bearer {credential}"}
    await _tried(f"{process.ws_url}/v1/ws", additional_headers=headers)


async def in_a_subprotocol(process: ServerProcess, credential: str) -> None:
    offered = ["hubbub.v1", f"bearer.{credential}"]
    await _tried(f"{process.ws_url}/v1/ws", subprotocols=offered)


async def in_the_first_frame(process: ServerProcess, credential: str) -> None:
    frames = (
        {"type": "auth", "token": credential},
        {"type": "auth", "token": [credential]},
        {"type": "join", "room": credential},
    )
    for frame in frames:
        await _tried(f"{process.ws_url}/v1/ws", frame)
    await _tried(f"{process.ws_url}/v1/ws", f'{{"type":"auth","token":"{credential}"')


async def in_a_later_frame(process: ServerProcess, credential: str) -> None:
    peer = await Peer.connect(f"{process.ws_url}/v1/ws?token={GOOD}")
    await peer.expect("connected")
    await peer.expect("joined")
    await peer.ask("auth", token=credential)
    await peer.close()


async def in_requests(process: ServerProcess, credential: str) -> None:
    async with httpx.AsyncClient(base_url=process.url, trust_env=False) as client:
        for header in ("Authorization", "X-API-Key"):
            headers = {header: f"Bearer {credential}"}
            await client.get("/v1/rooms", headers=headers)
            await client.post("/v1/rooms/tea/messages", headers=headers, content=b"{")
        await client.get("/v1/rooms", params={"token": credential, "api_key": credential})
        await client.get(f"/v1/nowhere?token={credential}")
        stream = client.stream("GET", f"/v1/events?room=tea&token={credential}")
        async with stream as answer:
            async for _ in answer.aiter_bytes():
                break


async def in_broken_requests(process: ServerProcess, credential: str) -> None:
    for text in (
        f"GET /v1/ws?token={credential} HTTP/9.9\r\nAuthorization: Bearer {credential}\r\n\r\n",
        f"Authorization: Bearer {credential}\r\n\r\n",
        f"GET / HTTP/1.1\r\nAuthorization Bearer {credential}\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", process.port)
        writer.write(text.encode())
        async with asyncio.timeout(DEADLINE):
            await reader.read()
        writer.close()


async def _tried(url: str, first: object = None, **options: Any) -> None:
    """A connection to its end, whether it is let in or not."""
    peer = await Peer.connect(url, **options)
    if isinstance(first, str):
        await peer.send_raw(first)
    elif first is not None:
        await peer.send(first)
    with suppress(ConnectionClosed):
        await peer.receive_raw()
    await peer.close()


WAYS: list[Way] = [
    in_the_query,
    in_a_header,
    in_a_subprotocol,
    in_the_first_frame,
    in_a_later_frame,
    in_requests,
    in_broken_requests,
]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("fmt", ["console", "json"])
async def test_no_credential_is_ever_written_down(fmt: str, serve_process: ServeProcess) -> None:
    process = await serve_process("--log-format", fmt, **GUARDED)
    for way in WAYS:
        for credential in (*CREDENTIALS.values(), API_KEY):
            await way(process, credential)
    await process.stop()
    log = process.stderr
    assert "opened at /v1/ws by ann" in log
    assert "turned away at /v1/ws: token_invalid" in log
    for name, credential in {**CREDENTIALS, "key": API_KEY, "secret": SECRET}.items():
        # A token is as good as given away without its last characters.
        for part in (credential, credential[:-8], credential.rpartition(".")[2]):
            assert part not in log, name
