"""Publishing over HTTP, reading what was published, and several things in one request."""

import asyncio
import json
from typing import Any

import pytest

from tests.api import KEY, WITH_A_KEY, Api
from tests.running_server import Serve
from tests.tokens import JWT, token

TEA = "/v1/rooms/tea/messages"


async def test_a_message_arrives_at_the_members_with_its_number(serve: Serve) -> None:
    server = await serve()
    api = Api(server, None)
    bob, _ = await server.member("bob", "tea")
    placed = await api("POST", TEA, {"data": {"text": "hello"}, "from": "ann"})
    assert set(placed) == {"room", "seq", "log", "message_id", "duplicate"}
    assert (placed["room"], placed["seq"], placed["duplicate"]) == ("tea", 1, False)
    message = await bob.expect("message", room="tea", seq=1, data={"text": "hello"})
    assert (message["from"], message["id"]) == ("ann", placed["message_id"])
    await bob.ask("publish", room="tea", data=2)
    await bob.expect("message", seq=2)
    assert (await api("POST", TEA, {"data": None}))["seq"] == 3
    assert (await bob.expect("message", seq=3, data=None))["from"] is None


@pytest.mark.parametrize(
    ("sent", "arrives"),
    [
        ('{"a":  1.50, "b": "\\u00e9\\/"}', '{"a":1.5,"b":"é/"}'),
        ("12345678901234567890123", "12345678901234567890123"),
        ('{"a":1,"a":2}', '{"a":2}'),
        ('"\\u2028\\n"', '"\u2028\\n"'),
        ("false", "false"),
    ],
)
async def test_data_is_passed_on_as_the_same_json(serve: Serve, sent: str, arrives: str) -> None:
    server = await serve()
    bob, _ = await server.member("bob", "tea")
    api = Api(server, None)
    await api("POST", TEA, f'{{"data": {sent}}}'.encode())
    await api("POST", "/v1/broadcast", f'{{"data": {sent}, "rooms": ["tea"]}}'.encode())
    operation = f'{{"op": "publish", "room": "tea", "data": {sent}}}'
    await api("POST", "/v1/batch", f'{{"operations": [{operation}]}}'.encode())
    for _ in range(3):
        assert f'"data":{arrives},' in str(await bob.receive_raw())
    page = (await api.answer("GET", TEA)).text
    assert page.count(f'"data":{arrives},') == 3


async def test_a_key_makes_it_happen_once(serve: Serve) -> None:
    server = await serve(**WITH_A_KEY)
    api = Api(server)
    first = await api("POST", TEA, {"data": 1, "key": "k"})
    assert await api("POST", TEA, {"data": 1, "key": "k"}) == {**first, "duplicate": True}
    by_header = {"Idempotency-Key": "k"}
    assert (await api("POST", TEA, {"data": 1}, headers=by_header))["duplicate"]
    assert (await api("POST", TEA, {"data": 1, "key": "k"}, headers=by_header))["duplicate"]
    assert await api.refusal("POST", TEA, {"data": 2, "key": "k"}) == (409, "key_conflict")
    two = await api.refusal("POST", TEA, {"data": 1, "key": "other"}, headers=by_header)
    assert two == (409, "key_conflict")
    # Of another room, and of another principal, it is another key.
    assert not (await api("POST", "/v1/rooms/b/messages", {"data": 1, "key": "k"}))["duplicate"]
    ann = await server.user("ann")
    assert not (await ann.ask("publish", room="tea", data=1, key="k"))["duplicate"]


@pytest.mark.parametrize("key", ["", "k" * 129, "é", "a\nb", 1])
async def test_a_key_is_printable_and_short(serve: Serve, key: object) -> None:
    api = Api(await serve(), None)
    assert await api.refusal("POST", TEA, {"data": 1, "key": key}) == (400, "bad_frame")


@pytest.mark.parametrize("key", [b"", b"k" * 129, b"\xe9"])
async def test_so_it_is_in_the_header(serve: Serve, key: bytes) -> None:
    api = Api(await serve(), None)
    headers = {b"Idempotency-Key": key}
    for body in ({"data": 1}, {"data": 1, "ephemeral": True}):
        assert await api.refusal("POST", TEA, body, headers=headers) == (400, "bad_frame")


async def test_an_ephemeral_message_is_delivered_and_has_no_place(serve: Serve) -> None:
    server = await serve()
    api = Api(server, None)
    bob, _ = await server.member("bob", "tea")
    body = {"data": 1, "ephemeral": True}
    assert await api("POST", TEA, body) == {"room": "tea", "ephemeral": True}
    await bob.expect("message", ephemeral=True, data=1)
    # Many a library sends this header with every request.
    assert await api("POST", TEA, body, headers={"Idempotency-Key": "k"})
    assert await api.refusal("POST", TEA, {**body, "key": "k"}) == (400, "bad_frame")
    assert (await api("GET", TEA))["messages"] == []


async def test_rooms_for_the_backend_only(serve: Serve) -> None:
    rules = [{"match": "news", "publish": "backend"}, {"match": "club", "publish": "members"}]
    server = await serve(**JWT, **WITH_A_KEY, rooms=rules)
    api, ann = Api(server), Api(server, token("ann"))
    news, club = "/v1/rooms/news/messages", "/v1/rooms/club/messages"
    assert (await api("POST", news, {"data": 1}))["seq"] == 1
    assert await ann.refusal("POST", news, {"data": 1}) == (403, "not_granted")
    assert await ann.refusal("POST", club, {"data": 1}) == (409, "not_joined")
    peer = await server.connect(f"/v1/ws?token={token('ann')}")
    await peer.expect("connected")
    await peer.ask("join", room="club")
    assert (await ann("POST", club, {"data": 1}))["seq"] == 1


async def test_rates(serve: Serve) -> None:
    limits = {"messages_per_second": 0.1, "messages_burst": 2, "commands_per_second": 0}
    rules = [{"match": "slow", "rate": 0.1}]
    server = await serve(**JWT, **WITH_A_KEY, limits=limits, rooms=rules)
    api, ann = Api(server), Api(server, token("ann"))
    assert [(await ann.answer("POST", TEA, {"data": 1})).status_code for _ in range(3)][2] == 429
    answer = await ann.answer("POST", TEA, {"data": 1})
    error = answer.json()["error"]
    assert (error["code"], error["retry"]) == ("rate_limited", True)
    assert 0 < error["retry_after"] <= 10
    assert error["retry_after"] <= int(answer.headers["retry-after"]) < error["retry_after"] + 1
    slow = "/v1/rooms/slow/messages"
    assert [(await api.answer("POST", slow, {"data": 1})).status_code for _ in range(2)][1] == 429
    assert [(await api.answer("POST", TEA, {"data": 1})).status_code for _ in range(5)] == [200] * 5


# History


def seqs(page: dict[str, Any]) -> tuple[list[int], bool]:
    return [message["seq"] for message in page["messages"]], page["more"]


async def test_history_both_ways(serve: Serve) -> None:
    api = Api(await serve(), None)
    for number in range(1, 8):
        log = (await api("POST", TEA, {"data": number, "from": "ann"}))["log"]
    page = await api("GET", TEA)
    assert (page["room"], page["log"], seqs(page)) == ("tea", log, ([1, 2, 3, 4, 5, 6, 7], False))
    message = page["messages"][-1]
    assert set(message) == {"seq", "id", "from", "data", "ts"}
    assert (message["from"], message["data"]) == ("ann", 7)
    for query, expected in {
        "limit=2": ([6, 7], True),
        "limit=2&before=6": ([4, 5], True),
        "limit=9&before=3": ([1, 2], False),
        "limit=2&after=3": ([4, 5], True),
        "after=5": ([6, 7], False),
        "after=7": ([], False),
        "limit=1000000": ([1, 2, 3, 4, 5, 6, 7], False),
        "before=0": ([], False),
        "after=2&before=5": ([3, 4], False),
        "after=2&before=6&limit=2": ([3, 4], True),
        "after=2&before=5&limit=2": ([3, 4], False),
        "after=2&before=3": ([], False),
        "after=5&before=3": ([], False),
        f"log={log}&limit=1": ([7], True),
        "log=another.0": ([], False),
    }.items():
        assert seqs(await api("GET", f"{TEA}?{query}")) == expected, query


async def test_a_room_that_nobody_published_to_is_empty(serve: Serve) -> None:
    page = await Api(await serve(), None)("GET", TEA)
    assert (page["messages"], page["more"]) == ([], False)


# Several things at once


async def test_one_message_for_many_rooms(serve: Serve) -> None:
    server = await serve()
    api = Api(server, None)
    ann = await server.user("ann")
    body = {"rooms": ["a", "b b", "b", "@ann"], "data": 1, "from": "bob", "key": "k"}
    results = (await api("POST", "/v1/broadcast", body))["results"]
    assert [result.get("room") for result in results] == ["a", None, "b", "@ann"]
    assert results[1]["error"]["code"] == "bad_name"
    await ann.expect("message", room="@ann", data=1)
    again = (await api("POST", "/v1/broadcast", body))["results"]
    assert [result.get("duplicate") for result in again] == [True, None, True, True]
    assert await ann.is_quiet()


@pytest.mark.parametrize(
    "body",
    [
        {"rooms": [], "data": 1},
        {"rooms": ["r"] * 101, "data": 1},
        {"rooms": ["a"]},
        {"rooms": "a", "data": 1},
        {"rooms": [1], "data": 1},
        {"rooms": ["a"], "data": 1, "ephemeral": True, "key": "k"},
        {"rooms": ["a"], "data": 1, "room": "a"},
    ],
)
async def test_what_is_no_broadcast_goes_nowhere(serve: Serve, body: object) -> None:
    api = Api(await serve(), None)
    assert await api.refusal("POST", "/v1/broadcast", body) == (400, "bad_frame")
    assert (await api("GET", "/v1/rooms/a/messages"))["messages"] == []


async def test_who_speaks_in_a_broadcast_is_checked_first(serve: Serve) -> None:
    server = await serve(**JWT, **WITH_A_KEY)
    body = {"rooms": ["a"], "data": 1, "from": "b b"}
    assert await Api(server).refusal("POST", "/v1/broadcast", body) == (400, "bad_name")
    ann = Api(server, token("ann"))
    body = {"rooms": ["a"], "data": 1, "from": "bob"}
    assert await ann.refusal("POST", "/v1/broadcast", body) == (403, "forbidden")


async def test_a_batch_has_one_result_for_each_operation(serve: Serve) -> None:
    server = await serve(**WITH_A_KEY)
    bob, _ = await server.member("bob", "a")
    operations: list[Any] = [
        {"op": "publish", "room": "a", "data": 1, "key": "k", "from": "ann"},
        {"op": "publish", "room": "a", "data": 1, "key": "k", "from": "ann"},
        {"op": "history", "room": "a"},
        {"op": "members", "room": "a"},
        {"op": "room", "room": "a"},
        {"op": "publish", "room": "a b", "data": 1},
        {"op": "fly"},
        {"op": "publish", "room": "a", "data": 1, "ephemeral": True, "key": "k"},
        {"op": "history", "room": "a", "colour": "red"},
        {"op": "kick", "room": "a", "user": "bob"},
        {"op": "enter", "room": "b", "user": "bob"},
        {"op": "disconnect", "user": "nobody"},
        {"op": "block", "user": "nobody", "until": 1},
        {"op": "unblock", "user": "nobody"},
        {"op": "revoke_token", "token_id": "t"},
        {"op": "revoke_tokens", "user": "nobody"},
        3,
        None,
    ]
    answer = await Api(server)("POST", "/v1/batch", {"operations": operations})
    first, second, history, members, room, *rest = answer["results"]
    assert second == {**first, "duplicate": True}
    assert seqs(history) == ([1], False)
    assert [member["user"] for member in members["members"]] == ["bob"]
    assert room["options"]["history_size"] == 100
    outcomes = [result.get("ordered") or result["error"]["code"] for result in rest]
    assert outcomes == [
        "bad_name",
        "bad_frame",
        "bad_frame",
        "bad_frame",
        "kick",
        "enter",
        "send_away",
        "block",
        "unblock",
        "revoke_token",
        "revoke_tokens",
        "bad_frame",
        "bad_frame",
    ]
    await bob.expect("message", seq=1)
    await bob.expect("removed", room="a")
    await bob.expect("joined", room="b")
    assert await bob.is_quiet()


async def test_messages_of_a_batch_keep_their_order(serve: Serve) -> None:
    api = Api(await serve(), None)
    operations = [{"op": "publish", "room": "a", "data": number} for number in range(100)]
    results = (await api("POST", "/v1/batch", {"operations": operations}))["results"]
    assert [result["seq"] for result in results] == list(range(1, 101))
    page = await api("GET", "/v1/rooms/a/messages")
    assert [message["data"] for message in page["messages"]] == list(range(100))


async def test_what_follows_in_a_batch_finds_its_messages_published(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await serve()
    broker = server.container.broker()
    submit, later = broker.submit, asyncio.get_running_loop().call_later

    def take_time(*what: Any) -> None:
        later(0.02, submit, *what)

    monkeypatch.setattr(broker, "submit", take_time)
    publish = {"op": "publish", "room": "a", "data": 1}
    operations = [publish, publish, {"op": "history", "room": "a"}, publish]
    answer = await Api(server, None)("POST", "/v1/batch", {"operations": operations})
    first, second, history, third = answer["results"]
    assert [result["seq"] for result in (first, second, third)] == [1, 2, 3]
    assert seqs(history) == ([1, 2], False)


async def test_each_operation_takes_its_own_grant(serve: Serve) -> None:
    server = await serve(**JWT)
    ann = Api(server, token("ann", rooms={"a": ["publish"], "b": ["history"]}))
    operations = [
        {"op": op, "room": room, **more}
        for room in ("a", "b")
        for op, more in (("publish", {"data": 1}), ("history", {}), ("kick", {"user": "x"}))
    ]
    results = (await ann("POST", "/v1/batch", {"operations": operations}))["results"]
    assert [result.get("error", {}).get("code") for result in results] == [
        None,
        "not_granted",
        "not_granted",
        "not_granted",
        None,
        "not_granted",
    ]


@pytest.mark.parametrize("operations", [[], [{}] * 101, {}, None, "x"])
async def test_a_batch_is_a_short_list(serve: Serve, operations: object) -> None:
    api = Api(await serve(), None)
    assert await api.refusal("POST", "/v1/batch", {"operations": operations}) == (400, "bad_frame")


async def test_one_operation_may_be_as_large_as_one_message(serve: Serve) -> None:
    api = Api(await serve(limits={"frame_bytes": 1000}), None)

    def operation(size: int) -> dict[str, Any]:
        made = {"op": "publish", "room": "a", "data": ""}
        return {**made, "data": "x" * (size - len(json.dumps(made)))}

    operations = [operation(1000), operation(1001), operation(500)]
    results = (await api("POST", "/v1/batch", {"operations": operations}))["results"]
    assert [result.get("error", {}).get("code") for result in results] == [
        None,
        "message_too_large",
        None,
    ]
    assert await api.refusal("POST", "/v1/batch", {"operations": [operation(1000)] * 4}) == (
        413,
        "message_too_large",
    )


async def test_what_a_batch_reads_is_bounded(serve: Serve) -> None:
    api = Api(await serve(), None)
    for _ in range(4):
        await api("POST", "/v1/rooms/a/messages", {"data": "x" * 60_000})
    operations: list[Any] = [{"op": "history", "room": "a"}] * 99
    operations.append({"op": "publish", "room": "a", "data": 1})
    answer = await api.answer("POST", "/v1/batch", {"operations": operations})
    results = answer.json()["results"]
    read = [result for result in results if "messages" in result]
    assert 1 < len(read) < 10
    assert results[98]["error"]["code"] == "message_too_large"
    assert results[99]["seq"] == 5
    assert len(answer.content) < 2_000_000


async def test_a_key_of_the_settings_is_one_principal(serve: Serve) -> None:
    keys = [
        {"name": "one", "key": "the-key-of-the-first-one", "rooms": {"*": ["publish"]}},
        {"name": "two", "key": "the-key-of-the-second-one", "rooms": {"*": ["publish"]}},
    ]
    server = await serve(**WITH_A_KEY, api_keys=keys)
    body = {"data": 1, "key": "k"}
    credentials = [KEY, *(key["key"] for key in keys)]
    for duplicate in (False, True):
        for credential in credentials:
            placed = await Api(server, str(credential))("POST", TEA, body)
            assert placed["duplicate"] is duplicate
