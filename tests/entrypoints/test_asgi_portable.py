"""The application under a server that knows ASGI and nothing of ours: no lane, no extensions."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI

from entrypoints.asgi import create_app
from entrypoints.settings import Settings
from tests.peer import DEADLINE
from tests.tokens import JWT, token

Event = MutableMapping[str, Any]


class Scripted:
    """One WebSocket as an ASGI server would run it, frame by frame."""

    def __init__(self, app: FastAPI, path: str, **scope: Any) -> None:
        path, _, query = path.partition("?")
        self._scope = {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "ws",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(b"host", b"testserver")],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
            "subprotocols": [],
            **scope,
        }
        self._to_app: asyncio.Queue[Event] = asyncio.Queue()
        self._from_app: asyncio.Queue[Event] = asyncio.Queue()
        self._to_app.put_nowait({"type": "websocket.connect"})
        call: Callable[..., Awaitable[None]] = app
        self.takes = asyncio.Event()
        self.takes.set()
        self.task = asyncio.ensure_future(call(self._scope, self._to_app.get, self._take))

    async def _take(self, event: Event) -> None:
        await self.takes.wait()
        self._from_app.put_nowait(event)

    async def event(self) -> Event:
        async with asyncio.timeout(DEADLINE):
            return await self._from_app.get()

    async def accepted(self) -> Event:
        event = await self.event()
        assert event["type"] == "websocket.accept", event
        return event

    def send(self, frame: object) -> None:
        self._to_app.put_nowait({"type": "websocket.receive", "text": json.dumps(frame)})

    def send_bytes(self, data: bytes) -> None:
        self._to_app.put_nowait({"type": "websocket.receive", "bytes": data, "text": None})

    async def receive(self) -> dict[str, Any]:
        event = await self.event()
        assert event["type"] == "websocket.send", event
        frame: dict[str, Any] = json.loads(event["text"])
        return frame

    async def closed(self) -> tuple[int, str]:
        event = await self.event()
        assert event["type"] == "websocket.close", event
        return event["code"], event["reason"]

    async def leave(self, code: int = 1000) -> None:
        """The client is gone; the application has to return."""
        self._to_app.put_nowait({"type": "websocket.disconnect", "code": code})
        async with asyncio.timeout(DEADLINE):
            await self.task


@asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[FastAPI]:
    app = create_app(Settings(**settings))
    async with app.router.lifespan_context(app):
        yield app


async def test_the_main_door_works() -> None:
    async with running() as app:
        ann = Scripted(app, "/v1/ws?user=ann", subprotocols=["hubbub.v1"])
        bob = Scripted(app, "/v1/ws?user=bob")
        assert (await ann.accepted())["subprotocol"] == "hubbub.v1"
        assert (await bob.accepted())["subprotocol"] is None
        for peer, name in ((ann, "ann"), (bob, "bob")):
            assert (await peer.receive())["user_id"] == name
            assert (await peer.receive())["room"] == f"@{name}"
            peer.send({"type": "join", "room": "r", "id": 1})
            assert (await peer.receive())["type"] == "joined"
        assert (await ann.receive())["type"] == "join"

        ann.send({"type": "publish", "room": "r", "data": "größe 🎈", "echo": False})
        assert (await ann.receive())["type"] == "ack"
        message = await bob.receive()
        assert (message["type"], message["data"]) == ("message", "größe 🎈")
        bob.send_bytes(b"binary")
        assert (await bob.receive())["code"] == "bad_frame"
        await bob.leave()
        assert (await ann.receive())["type"] == "leave"
        await ann.leave(1001)


async def test_tutorial_doors_work() -> None:
    async with running() as app:
        echo = Scripted(app, "/ws")
        await echo.accepted()
        echo.send([1])
        assert (await echo.receive())["echo"] == [1]
        await echo.leave()

        binary = Scripted(app, "/ws/binary")
        await binary.accepted()
        for data in (b"\x00\xff", b""):
            binary.send_bytes(data)
            assert await binary.event() == {"type": "websocket.send", "bytes": data}
        await binary.leave()

        room = Scripted(app, "/ws/rooms/r/ann")
        await room.accepted()
        room.send({"text": "x"})
        frame = await room.receive()
        assert (frame["type"], frame["from"], frame["text"]) == ("message", "ann", "x")
        await room.leave()


async def test_a_bad_name_is_answered_and_closed() -> None:
    async with running() as app:
        peer = Scripted(app, "/ws/bad name")
        await peer.accepted()
        assert (await peer.receive())["code"] == "bad_name"
        assert (await peer.closed())[0] == 4000
        await peer.leave(4000)


async def test_tokens_are_asked_for() -> None:
    async with running(**JWT) as app:
        refused = Scripted(app, "/ws?token=x")
        await refused.accepted()
        code, reason = await refused.closed()
        assert (code, reason.startswith("token_invalid")) == (4001, True)
        await refused.leave(4001)

        header = (b"authorization", f"Bearer {token('ann')}".encode())
        peer = Scripted(app, "/ws", headers=[header])
        await peer.accepted()
        peer.send(1)
        assert (await peer.receive())["echo"] == 1
        await peer.leave()


async def test_a_refusal_before_the_upgrade_is_a_close_where_nothing_better_is_known() -> None:
    async with running() as app:
        headers = [(b"host", b"testserver"), (b"origin", b"https://evil.example")]
        plain = Scripted(app, "/ws", headers=headers)
        event = await plain.event()
        assert event["type"] == "websocket.close"
        await plain.leave(1006)

        able = Scripted(app, "/ws", headers=headers, extensions={"websocket.http.response": {}})
        start = await able.event()
        assert (start["type"], start["status"]) == ("websocket.http.response.start", 403)
        assert (await able.event())["type"] == "websocket.http.response.body"
        await able.leave(1006)


async def test_a_session_that_the_server_ends_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("application.session.EXPIRY_LEEWAY", 0.0)
    async with running(**JWT) as app:
        peer = Scripted(app, f"/v1/ws?token={token('ann', 0.1)}")
        await peer.accepted()
        assert (await peer.receive())["type"] == "connected"
        assert (await peer.receive())["type"] == "joined"
        assert (await peer.receive())["code"] == 4101
        assert (await peer.closed())[0] == 4101
        await peer.leave(4101)


async def test_a_heartbeat_door_needs_its_pong_under_any_server() -> None:
    """WebSocket pings are not to be had there; the JSON ones of this door are."""
    async with running(ping_interval=0.05, ping_timeout=0.1) as app:
        silent = Scripted(app, "/ws/heartbeat/ann")
        await silent.accepted()
        while (event := await silent.event())["type"] == "websocket.send":
            assert json.loads(event["text"]) == {"type": "ping"}
        assert (event["type"], event["code"]) == ("websocket.close", 4103)
        await silent.leave(4103)

        quiet = Scripted(app, "/v1/ws?user=ann")  # nobody's silence is held against it here
        await quiet.accepted()
        for kind in ("connected", "joined", "ping", "ping", "ping", "ping", "ping"):
            assert (await quiet.receive())["type"] == kind
        await quiet.leave()


async def test_a_peer_that_takes_nothing_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """`send` cannot be interrupted; the application returns all the same, which ends it."""
    monkeypatch.setattr("adapters.transport.asgi.CLOSE_DEADLINE", 0.05)
    limits = {"frame_bytes": 1024, "outbox_bytes": 8192, "messages_per_second": 0}
    async with running(limits=limits) as app:
        deaf = Scripted(app, "/ws/rooms/r/deaf")
        await deaf.accepted()
        ann = Scripted(app, "/ws/rooms/r/ann")
        await ann.accepted()
        ann.send({"text": "both are in"})
        assert (await deaf.receive())["type"] == "join"
        for peer in (deaf, ann):
            assert (await peer.receive())["text"] == "both are in"

        deaf.takes.clear()
        for number in range(20):
            ann.send({"text": f"{number} {'x' * 900}"})
            assert (await ann.receive())["text"].startswith(f"{number} ")
        async with asyncio.timeout(DEADLINE):
            await deaf.task
        ann.send({"text": "on my own"})
        assert (await ann.receive())["text"] == "on my own"
        await ann.leave()
