"""The Python client and servers that do not behave."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from hubbub_client import Gap, Hub, Message, Position, Recovered, State, StateChange, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.peer import DEADLINE, Frame, until

CONNECTED = {"type": "connected", "session_id": "s", "user_id": "ann", "ping_interval": 25.0}


class Visit:
    """One connection, from the server's side."""

    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection

    async def say(self, *frames: Frame | str | bytes) -> None:
        for frame in frames:
            await self._connection.send(json.dumps(frame) if isinstance(frame, dict) else frame)

    async def hear(self) -> Frame:
        frame: Frame = json.loads(await self._connection.recv())
        return frame

    async def joined(self, *seqs: int, outcome: str = "none") -> Frame:
        """Greet, and answer the first frame, which must be a join."""
        await self.say(CONNECTED)
        join = await self.hear()
        assert join["type"] == "join", join
        position = {"log": "log.0", "seq": seqs[-1]}
        messages = [message(seq) for seq in seqs[1:]]
        await self.say(
            {"type": "joined", "id": join["id"], "room": join["room"], "position": position}
            | {"recovery": {"outcome": outcome}, "messages": messages, "more": False}
            | {"members": None, "count": None, "version": None}
        )
        return join

    async def end(self) -> None:
        """Wait until the client has gone."""
        try:
            while True:
                await self._connection.recv()
        except ConnectionClosed:
            return


def message(seq: int) -> Frame:
    named = {"type": "message", "room": "r", "seq": seq, "id": f"m{seq}"}
    return named | {"from": None, "data": seq, "ts": 0.5}


Script = Callable[[Visit], Awaitable[None]]
Against = Callable[..., Awaitable[tuple[Hub, list[StateChange]]]]


@pytest.fixture
async def against() -> AsyncIterator[Against]:
    """A hub, started against a server that follows one script after the other, and what the hub
    says of its state. A script that fails fails the test."""
    failures: list[BaseException] = []
    async with AsyncExitStack() as stack:

        async def begin(*scripts: Script, **options: Any) -> tuple[Hub, list[StateChange]]:
            rest = iter(scripts)

            async def visit(connection: ServerConnection) -> None:
                script = next(rest, Visit.end)
                try:
                    await script(Visit(connection))
                except ConnectionClosed:
                    pass
                except BaseException as failure:
                    failures.append(failure)

            server = await stack.enter_async_context(serve(visit, "127.0.0.1", 0))
            port = next(iter(server.sockets)).getsockname()[1]
            changes: list[StateChange] = []
            quick = {"proxy": None, "backoff": (0.01, 0.02), "on_state": changes.append}
            hub = connect(f"ws://127.0.0.1:{port}", **{**quick, **options})
            stack.push_async_callback(hub.close)
            hub.start()
            return hub, changes

        yield begin
    assert failures == []


async def reasons(changes: list[StateChange], count: int = 1) -> list[str]:
    """Why it was offline, so many times."""

    def found() -> list[str]:
        return [change.reason for change in changes if change.state is State.OFFLINE]

    await until(lambda: len(found()) >= count)
    return found()


async def test_a_hole_is_closed_by_coming_back(against: Against) -> None:
    returns: list[Frame] = []

    async def first(visit: Visit) -> None:
        await visit.joined(5)
        await visit.say(message(6), message(9))
        await visit.end()

    async def second(visit: Visit) -> None:
        returns.append(await visit.joined(6, 7, 8, 9, outcome="ok"))
        await visit.end()

    hub, changes = await against(first, second)
    room = await hub.join("r")
    async with asyncio.timeout(DEADLINE):
        seen = [await anext(room.events()) for _ in range(5)]
    told = [event.data if isinstance(event, Message) else event for event in seen]
    assert told == [6, Recovered(3), 7, 8, 9]
    assert returns[0]["position"] == {"log": "log.0", "seq": 6}
    assert await reasons(changes) == ["2 messages are missing before 9"]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("no json", "not a frame"),
        ("[1, 2]", "not a frame"),
        ('{"type": "message", "room": "r"}', "a frame that cannot be understood"),
    ],
)
async def test_what_is_no_frame_is_a_reason_to_come_back(
    against: Against, said: str, reason: str
) -> None:
    async def script(visit: Visit) -> None:
        await visit.joined(1)
        await visit.say(said)
        await visit.end()

    async def again(visit: Visit) -> None:
        await visit.joined(1, outcome="ok")
        await visit.say(message(2))
        await visit.end()

    hub, changes = await against(script, again)
    room = await hub.join("r")
    async with asyncio.timeout(DEADLINE):
        assert (await anext(aiter(room))).seq == 2
    assert (await reasons(changes))[0].startswith(reason)


async def test_binary_frames_are_ignored(against: Against) -> None:
    async def script(visit: Visit) -> None:
        await visit.joined(1)
        await visit.say(b"\x00\x01", message(2))
        await visit.end()

    hub, _ = await against(script)
    room = await hub.join("r")
    async with asyncio.timeout(DEADLINE):
        assert (await anext(aiter(room))).position == Position("log.0", 2)


@pytest.mark.parametrize("greeting", [{"type": "connected"}, {**CONNECTED, "ping_interval": None}])
async def test_what_greets_otherwise_is_no_server_of_ours(
    against: Against, greeting: Frame
) -> None:
    async def script(visit: Visit) -> None:
        await visit.say(greeting)
        await visit.end()

    _, changes = await against(script)
    assert await reasons(changes) == ["this is no hubbub server"]


async def test_a_server_that_does_not_greet(
    against: Against, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hubbub_client.keeper._GREETING", 0.05)
    _, changes = await against(Visit.end)
    assert (await reasons(changes))[0] == "no greeting"


async def test_a_farewell_without_a_close(
    against: Against, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hubbub_client.keeper._FAREWELL", 0.05)

    async def script(visit: Visit) -> None:
        await visit.say(CONNECTED, {"type": "disconnect", "code": 4003, "reason": "enough"})
        await visit.end()

    hub, _ = await against(script)
    async with asyncio.timeout(DEADLINE):
        assert await hub.closed() == StateChange(State.CLOSED, 4003, "enough")


async def test_a_farewell_that_does_not_say_how_is_a_reason_to_come_back(against: Against) -> None:
    async def script(visit: Visit) -> None:
        odd = {"code": "soon", "reason": 5, "reconnect_after": "later"}
        await visit.say(CONNECTED, {"type": "disconnect", **odd})

    async def bare(visit: Visit) -> None:
        await visit.say(CONNECTED, {"type": "disconnect"})

    async def back(visit: Visit) -> None:
        await visit.joined(1)
        await visit.end()

    hub, changes = await against(script, bare, back)
    async with asyncio.timeout(DEADLINE):
        await hub.join("r")
    offline = [change for change in changes if change.state is State.OFFLINE]
    assert [(change.code, change.reason) for change in offline] == [(1006, "5"), (1006, "")]


async def test_a_token_source_that_hangs_is_asked_again(
    against: Against, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hubbub_client.credentials._PATIENCE", 0.05)
    calls: list[int] = []

    async def fetch() -> str:
        calls.append(1)
        if len(calls) == 1:
            await asyncio.Event().wait()
        return "late"

    async def script(visit: Visit) -> None:
        await visit.joined(1)
        await visit.end()

    hub, changes = await against(script, token=fetch)
    async with asyncio.timeout(DEADLINE):
        await hub.join("r")
    assert await reasons(changes) == ["no token: nothing came within 0.05 s"]


async def test_a_server_that_does_not_answer_is_asked_and_left(
    against: Against, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hubbub_client.liveness._IMPATIENCE", 0.1)
    heard: list[str] = []

    async def deaf(visit: Visit) -> None:
        await visit.say(CONNECTED)
        while True:
            heard.append((await visit.hear())["type"])

    async def next_one(visit: Visit) -> None:
        await visit.say(CONNECTED)
        frame = await visit.hear()
        ack = {"type": "ack", "id": frame["id"], "room": "r", "log": "log.0", "seq": 1}
        await visit.say(ack | {"message_id": "m1", "duplicate": False})
        await visit.end()

    hub, changes = await against(deaf, next_one)
    async with asyncio.timeout(DEADLINE):
        assert (await hub.publish("r", 1)).seq == 1
    assert heard == ["publish", "ping"]
    assert await reasons(changes) == ["no sign of life"]


async def test_pushes_that_are_pings_of_the_protocol_are_signs_of_life(
    against: Against, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No frame comes, but the control frames that the library answers by itself."""
    over = asyncio.Event()

    async def script(visit: Visit) -> None:
        await visit.say({**CONNECTED, "ping_interval": 0.5})
        for _ in range(20):
            await (await visit._connection.ping())
            await asyncio.sleep(0.1)
        over.set()
        await visit.end()

    _, changes = await against(script, grace=1.0)
    async with asyncio.timeout(DEADLINE):
        await over.wait()
    assert [change.state for change in changes] == [State.CONNECTING, State.CONNECTED]
    # And without them it is over soon.
    assert await reasons(changes) == ["no sign of life"]


async def test_a_gap_that_nobody_acts_on_is_logged(
    against: Against, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(visit: Visit) -> None:
        await visit.joined(1)
        position = {"log": "log.0", "seq": 8}
        recovery = {"outcome": "gap", "first": 7}
        resync = {"type": "resync", "room": "r", "position": position, "recovery": recovery}
        await visit.say(resync | {"messages": [message(7), message(8)], "more": False})
        await visit.end()

    hub, _ = await against(script)
    room = await hub.join("r")
    async with asyncio.timeout(DEADLINE):
        messages = [await anext(aiter(room)) for _ in range(2)]
    assert [message.seq for message in messages] == [7, 8]
    assert str(Gap("gap", first=7)) in caplog.text


async def test_a_token_that_is_given_again_is_not_asked_for_without_a_pause(
    against: Against,
) -> None:
    tried: list[float] = []

    async def same(visit: Visit) -> None:
        await visit.say(CONNECTED | {"expires_in": 0.0})
        while len(tried) < 3:
            auth = await visit.hear()
            assert auth["type"] == "auth"
            tried.append(asyncio.get_running_loop().time())
            await visit.say({"type": "ack", "id": auth["id"], "expires_in": 0.0})
        await visit.end()

    await against(same, token=lambda: "same")
    await until(lambda: len(tried) == 3)
    assert tried[2] - tried[0] >= 1.9
