"""The list of sessions, for whoever runs the server."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from application.list_sessions import ListSessions, SessionInfo, SessionList
from domain.grants import ALL_GRANTS, Action, Backend, Grants
from domain.identifiers import SessionId, UserId
from entrypoints.http.api.sessions import Sessions
from entrypoints.http.api.shapes import SessionsPage
from entrypoints.http.siblings import Siblings
from tests.api import KEY, WITH_A_KEY, Api
from tests.peer import until
from tests.raw_client import RawClient
from tests.running_server import Serve
from tests.tokens import JWT, token

SESSIONS = "/v1/sessions"


async def test_who_is_connected_and_how(serve: Serve) -> None:
    server = await serve(**WITH_A_KEY)
    ann, _ = await server.member("ann", "tea")
    source = await server.events("room=tea&room=milk&user=bob")
    connected = await source.expect("connected")
    for room in ("tea", "milk"):
        await source.expect("joined", room=room)
    chat = await server.connect("/ws/rooms/tea/cleo")
    await ann.expect("join", user="cleo")
    page = await Api(server)("GET", SESSIONS)
    assert msgspec.to_builtins(msgspec.convert(page, SessionsPage)) == page
    assert page["count"] == 3
    assert page["node"] == server.container.node_name()
    found = {session["user"]: session for session in page["sessions"]}
    assert {user: (s["door"], s["rooms"]) for user, s in found.items()} == {
        "ann": ("/v1/ws", 2),  # hers among them
        "bob": ("/v1/events", 2),
        "cleo": ("/ws/rooms/tea/cleo", 1),
    }
    assert found["bob"]["session_id"] == connected.frame["session_id"]
    for session in found.values():
        assert session["address"] == "127.0.0.1"
        assert session["node"] == page["node"]
        assert session["waiting"] == 0
        assert 0 <= session["age"] < 60
    await chat.close()


@pytest.mark.lane_only("what waits in the server's buffer cannot be seen elsewhere")
async def test_those_for_whom_most_is_waiting_come_first(serve: Serve) -> None:
    server = await serve(**WITH_A_KEY, limits={"messages_per_second": 0})
    server.narrow()
    talker = await server.user("talker")
    deaf = await RawClient.connect(server.port, "/v1/ws?user=deaf")
    await deaf.send({"type": "join", "room": "r"})
    await until(lambda: server.sessions() == 2 and server.metric("rooms") == 3)
    while server.backlog() < 100_000:
        await talker.ask("publish", room="r", data="x" * 20_000)
    api = Api(server)
    slowest = (await api("GET", f"{SESSIONS}?limit=1"))["sessions"]
    assert [session["user"] for session in slowest] == ["deaf"]
    assert slowest[0]["waiting"] >= 100_000
    page = await api("GET", SESSIONS)
    assert [session["user"] for session in page["sessions"]] == ["deaf", "talker"]
    deaf.close()


async def test_only_those_of_a_user(serve: Serve) -> None:
    server = await serve(**WITH_A_KEY)
    for user in ("ann", "bob", "bob"):
        await server.user(user)
    api = Api(server)
    page = await api("GET", f"{SESSIONS}?user=bob")
    assert (page["count"], [s["user"] for s in page["sessions"]]) == (2, ["bob", "bob"])
    page = await api("GET", f"{SESSIONS}?user=bob&limit=1")
    assert (page["count"], len(page["sessions"])) == (2, 1)
    page = await api("GET", f"{SESSIONS}?user=nobody")
    assert (page["count"], page["sessions"]) == (0, [])
    assert await api.refusal("GET", f"{SESSIONS}?user=a%20b") == (400, "bad_name")
    assert await api.refusal("GET", f"{SESSIONS}?limit=0") == (422, "bad_frame")


EVERYTHING = [action.value for action in Action]
LESSER: list[dict[str, list[str]]] = [
    {"*": EVERYTHING},
    {"@*": EVERYTHING},
    {"chat:*": ["manage"], "@*": ["manage"]},
    {"*": ["join", "publish", "history", "members"], "@*": ["manage"]},
]


@pytest.mark.parametrize("rooms", LESSER)
async def test_whoever_may_not_manage_everything_is_told_nothing(
    serve: Serve, rooms: dict[str, list[str]]
) -> None:
    keys = [{"name": "app", "key": "the-key-of-the-app", "rooms": rooms}]
    server = await serve(**JWT, api_keys=keys)
    for credential in ("the-key-of-the-app", token("ann", rooms=rooms)):
        api = Api(server, credential)
        for query in ("", "?user=ann"):
            assert await api.refusal("GET", SESSIONS + query) == (403, "not_granted")


async def test_whoever_may_is_told(serve: Serve) -> None:
    rooms = {"*": ["manage"], "@*": ["manage"]}
    server = await serve(**JWT, **WITH_A_KEY)
    for credential in (KEY, token("ann", rooms=rooms)):
        assert (await Api(server, credential)("GET", SESSIONS))["count"] == 0
    open_here = await serve()
    assert (await Api(open_here, None)("GET", SESSIONS))["count"] == 0


def test_everything_is_all_rooms_and_all_personal_ones() -> None:
    assert ALL_GRANTS.allows_everywhere(Action.MANAGE)
    for rules in LESSER:
        assert not Grants(rules).allows_everywhere(Action.MANAGE)
    assert not Grants({"a*": ["manage"], "b*": ["manage"], "@a*": ["manage"]}).allows_everywhere(
        Action.MANAGE
    )


# With other workers

BACKEND = Backend("ops", ALL_GRANTS)


class Listed(ListSessions):
    """A node with sessions for which so much is waiting."""

    def __init__(self, *waiting: int) -> None:
        self._found = [
            SessionInfo(SessionId(str(bytes_)), UserId("ann"), "/v1/ws", None, 1, bytes_, 1.0)
            for bytes_ in waiting
        ]

    def __call__(self, user: str | None = None, limit: int = 100) -> SessionList:
        slowest = sorted(self._found, key=lambda info: -info.waiting)[:limit]
        return SessionList(slowest if user != "nobody" else [], len(self._found))


async def test_a_worker_tells_those_of_all(tmp_path: Path) -> None:
    nodes = {"a": Listed(1, 5), "b": Listed(4, 2, 0), "c": Listed()}
    async with AsyncExitStack() as running:
        told: dict[str, Any] = {}
        for name, listed in nodes.items():
            siblings = Siblings(tmp_path, name)
            told[name] = Sessions(listed, siblings, name)
            await running.enter_async_context(siblings.telling({"sessions": told[name].tell}))
        page = msgspec.json.decode(await told["c"](BACKEND, None, 3), type=SessionsPage)
        assert (page.node, page.count) == ("c", 5)
        assert [(s.node, s.waiting) for s in page.sessions] == [("a", 5), ("b", 4), ("b", 2)]
        page = msgspec.json.decode(await told["a"](BACKEND, "nobody", 3), type=SessionsPage)
        assert page.sessions == []


async def test_half_an_answer_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b'{"node":"b","count":1,"sess')
        writer.close()

    server = await asyncio.start_unix_server(answer, tmp_path / "b")
    async with server:
        sessions = Sessions(Listed(1), Siblings(tmp_path, "a"), "a")
        page = msgspec.json.decode(await sessions(BACKEND, None, 3), type=SessionsPage)
    assert page.count == 1
    assert "ended while it told its sessions" in caplog.text
