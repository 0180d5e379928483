"""Who may use the HTTP API: keys, tokens, and nobody in particular."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from domain.grants import ALL_GRANTS, Backend
from entrypoints.asgi import create_app
from entrypoints.http.api import callers
from entrypoints.http.api.callers import KeyRing
from entrypoints.settings import Settings
from tests.api import KEY, WITH_A_KEY, Api
from tests.running_server import Serve
from tests.tokens import BAD_TOKENS, JWT, token

TEA = "/v1/rooms/tea/messages"


def routes() -> Iterator[tuple[str, str]]:
    """Method and path of every route of the API, with names filled in."""
    for path, operations in create_app(Settings()).openapi()["paths"].items():
        if path.startswith("/v1/"):
            for method in operations:
                yield method.upper(), path.replace("{room}", "tea").replace("{user}", "ann")


ROUTES = sorted(routes())


def test_there_are_routes() -> None:
    assert ("POST", TEA) in ROUTES
    assert len(ROUTES) > 10


async def test_no_route_opens_without_a_credential(serve: Serve) -> None:
    for settings in (WITH_A_KEY, JWT, {**JWT, **WITH_A_KEY}):
        server = await serve(**settings)
        for method, path in ROUTES:
            # Before anything of the request is looked at.
            outcome = await Api(server, None).refusal(method, path, b"{")
            assert outcome == (401, "token_missing"), (method, path)


@pytest.mark.parametrize("kind", BAD_TOKENS)
async def test_no_bad_token_opens_anything(serve: Serve, kind: str) -> None:
    make, code = BAD_TOKENS[kind]
    server = await serve(**JWT, **WITH_A_KEY)
    for method, path in ROUTES:
        outcome = await Api(server, make("ann")).refusal(method, path, {})
        assert outcome == (401, code), (method, path)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        KEY,
        f"Basic {KEY}",
        f"Token {KEY}",
        f"Bearer {KEY}x",
        f"Bearer {KEY[:-1]}",
        f"Bearer {KEY.upper()}",
        "Bearer \xe9",
        f"Bearer {KEY}, Bearer {KEY}",
    ],
)
async def test_what_is_no_credential_is_not_passed_over(serve: Serve, header: str) -> None:
    """Not even where one would be let in without."""
    for settings in ({}, WITH_A_KEY):
        api = Api(await serve(**settings), None)
        headers = {b"Authorization": header.encode("latin-1")}
        outcome = await api.refusal("GET", "/v1/rooms", headers=headers)
        assert outcome == (401, "token_invalid")


async def test_two_credentials_are_none(serve: Serve) -> None:
    server = await serve(**WITH_A_KEY)
    headers = [("Authorization", f"Bearer {KEY}"), ("Authorization", f"Bearer {KEY}")]
    assert (await server.get("/v1/rooms", headers=headers)).status_code == 401


async def test_a_key_is_not_looked_for_elsewhere(serve: Serve) -> None:
    """Addresses are kept in logs and histories."""
    server = await serve(**WITH_A_KEY)
    for query in (f"?token={KEY}", f"?api_key={KEY}", f"?access_token={KEY}"):
        assert (await server.get(f"/v1/rooms{query}")).status_code == 401
    assert KEY not in server.log.text


async def test_the_scheme_is_written_in_any_case(serve: Serve) -> None:
    server = await serve(**WITH_A_KEY)
    for scheme in ("Bearer", "bearer", "BEARER"):
        headers = {"Authorization": f"{scheme} {KEY}"}
        assert (await server.get("/v1/rooms", headers=headers)).status_code == 200


# Nobody in particular


async def test_where_nobody_is_asked_for_a_name_nobody_is_for_a_key(serve: Serve) -> None:
    api = Api(await serve(), None)
    assert (await api("POST", TEA, {"data": 1, "from": "ann"}))["seq"] == 1
    await api("POST", "/v1/users/ann/disconnect")


@pytest.mark.parametrize(
    "settings",
    [
        {"host": "0.0.0.0", "allow_anonymous": True},
        {"host": "::", "allow_anonymous": True},
        WITH_A_KEY,
        {"api_keys": [{"name": "a", "key": "some-key-of-an-app", "rooms": {}}]},
        JWT,
    ],
)
async def test_nobody_comes_in_where_others_could_or_a_key_is_there(
    settings: dict[str, Any],
) -> None:
    transport = httpx.ASGITransport(create_app(Settings(**settings)))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        for method, path in ROUTES:
            assert (await client.request(method, path)).status_code == 401


# Keys with a reach


async def test_a_key_reaches_as_far_as_its_rooms(serve: Serve) -> None:
    rooms = {"chat:*": ["publish", "history"], "@*": ["publish"]}
    server = await serve(api_keys=[{"name": "app", "key": "the-key-of-the-app", "rooms": rooms}])
    api = Api(server, "the-key-of-the-app")
    chat, ann = "/v1/rooms/chat:1/messages", "/v1/rooms/@ann/messages"
    peer = await server.user("ann")
    await api("POST", chat, {"data": 1})
    await api("GET", chat)
    await api("POST", ann, {"data": "psst"})
    await peer.expect("message", room="@ann", data="psst", **{"from": None})
    for method, path in (
        ("POST", TEA),
        ("GET", TEA),
        ("GET", ann),
        ("GET", "/v1/rooms/chat:1/members"),
        ("GET", "/v1/rooms/tea"),
        ("PUT", "/v1/rooms/chat:1/members/ann"),
        ("POST", "/v1/users/ann/disconnect"),
    ):
        body = {"data": 1} if path == TEA and method == "POST" else {}
        assert await api.refusal(method, path, body) == (403, "not_granted"), (method, path)
    assert (await api("GET", "/v1/rooms"))["rooms"] == []


async def test_the_single_key_may_do_everything_but_read_what_is_personal(serve: Serve) -> None:
    server = await serve(**JWT, **WITH_A_KEY, rooms=[{"match": "@*", "history_size": 10}])
    api, ann = Api(server), Api(server, token("ann"))
    mine = "/v1/rooms/@ann/messages"
    await api("POST", mine, {"data": "psst"})
    assert await api.refusal("GET", mine) == (403, "not_granted")
    assert (await ann("GET", mine))["messages"][0]["data"] == "psst"
    assert await Api(server, token("bob")).refusal("GET", mine) == (403, "not_granted")
    assert await ann.refusal("POST", mine, {"data": 1}) == (403, "not_granted")


async def test_a_key_from_a_file(serve: Serve, tmp_path: Path) -> None:
    file = tmp_path / "app.key"
    file.write_text("the-key-in-the-file\n")
    rooms = {"tea": ["publish"]}
    server = await serve(api_keys=[{"name": "app", "key_file": str(file), "rooms": rooms}])
    assert await Api(server, "the-key-in-the-file")("POST", TEA, {"data": 1})


async def test_a_token_reaches_as_far_as_its_grants(serve: Serve) -> None:
    server = await serve(**JWT)
    ann = Api(server, token("ann", rooms={"tea": ["publish", "history"]}))
    assert (await ann("POST", TEA, {"data": 1}))["seq"] == 1
    assert (await ann("POST", TEA, {"data": 1, "from": "ann"}))["seq"] == 2
    assert await ann.refusal("POST", TEA, {"data": 1, "from": "bob"}) == (403, "forbidden")
    messages = (await ann("GET", TEA))["messages"]
    assert [message["from"] for message in messages] == ["ann", "ann"]
    for method, path in (
        ("GET", "/v1/rooms/tea/members"),
        ("GET", "/v1/rooms/news/messages"),
        ("PUT", "/v1/rooms/tea/members/ann"),
        ("POST", "/v1/users/ann/disconnect"),
    ):
        assert await ann.refusal(method, path, {}) == (403, "not_granted")


async def test_how_often_a_token_asks_is_bounded(serve: Serve) -> None:
    limits = {"commands_per_second": 0.1, "commands_burst": 2, "messages_per_second": 0}
    server = await serve(**JWT, **WITH_A_KEY, limits=limits)
    ann = Api(server, token("ann"))
    assert [(await ann.answer("GET", "/v1/rooms")).status_code for _ in range(3)] == [200, 200, 429]
    batch = {
        "operations": [{"op": "room", "room": "tea"}, {"op": "publish", "room": "a", "data": 1}]
    }
    results = (await ann("POST", "/v1/batch", batch))["results"]
    assert results[0]["error"]["code"] == "rate_limited"
    assert results[1]["seq"] == 1
    assert await Api(server)("GET", "/v1/rooms")


# Pages


@pytest.mark.parametrize("settings", [{}, {"host": "localhost"}])
async def test_a_name_made_to_lead_here_reaches_nothing(
    serve: Serve, settings: dict[str, Any]
) -> None:
    """DNS rebinding: the page's own server, as the browser sees it, with no Origin in a GET."""
    server = await serve(**settings)
    for method, path in [*ROUTES, ("GET", "/metrics"), ("GET", "/openapi.json"), ("GET", "/")]:
        headers = {"Host": f"evil.example:{server.port}"}
        outcome = await Api(server, None).refusal(method, path, headers=headers)
        assert outcome == (403, "forbidden"), (method, path)
        headers["Origin"] = f"http://evil.example:{server.port}"
        outcome = await Api(server, None).refusal(method, path, headers=headers)
        assert outcome == (403, "forbidden"), (method, path)
    assert "HUBBUB_ORIGINS" in server.log.text
    for name in ("localhost", "127.0.0.1", "[::1]"):
        assert await Api(server, None)("GET", "/v1/rooms", headers={"Host": f"{name}:1"})


async def test_a_listed_name_reaches_it(serve: Serve) -> None:
    server = await serve(origins=["https://rooms.example.com"])
    headers = {"Host": "rooms.example.com"}
    assert await Api(server, None)("GET", "/v1/rooms", headers=headers)


async def test_pages_of_others_reach_nothing(serve: Serve) -> None:
    server = await serve(**WITH_A_KEY)
    headers = {"Origin": "https://evil.example"}
    assert await Api(server).refusal("POST", TEA, {"data": 1}, headers=headers) == (
        403,
        "forbidden",
    )
    assert (await Api(server)("GET", TEA))["messages"] == []


# Comparing keys


def test_the_key_that_was_shown_is_found() -> None:
    backends = [Backend(f"app-{number}", ALL_GRANTS) for number in range(3)]
    ring = KeyRing((f"key-{number}", backend) for number, backend in enumerate(backends))
    assert [ring.find(f"key-{number}") for number in range(4)] == [*backends, None]
    for other in ("", "key-", "key-00", "KEY-0", "key-0\udcff", "\xe9"):
        assert ring.find(other) is None


def test_keys_are_compared_as_digests_in_constant_time() -> None:
    """All of them, whichever it is: no `==`, no look-up, no way out of the loop."""
    tree = ast.parse(Path(callers.__file__).read_text())
    (ring,) = (
        node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "KeyRing"
    )
    (find,) = (node for node in ring.body if getattr(node, "name", "") == "find")
    calls = [ast.unparse(node.func) for node in ast.walk(find) if isinstance(node, ast.Call)]
    assert calls.count("compare_digest") == 1
    (loop,) = (node for node in ast.walk(find) if isinstance(node, ast.For))
    kept = {type(node) for node in ast.walk(loop)}
    assert not kept & {ast.Compare, ast.Break, ast.Return, ast.Subscript, ast.Continue}
    assert KEY not in repr(vars(KeyRing([(KEY, Backend("app", ALL_GRANTS))])))
