"""One policy, whichever way somebody comes: what is refused at one door is refused at all."""

import json
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, NoReturn
from urllib.parse import quote

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from domain.identifiers import UserId
from domain.orders import Block, RevokeToken
from tests.api import refused
from tests.peer import Peer
from tests.running_server import RunningServer, Serve
from tests.tokens import BAD_TOKENS, JWT, token

IN = "in"
ALL = ["join", "publish", "history", "members"]
_FORBIDDEN = {"forbidden", "not_granted"}


class Visit:
    """Somebody who wants to be in a room. The verdict is IN, or the word for why not."""

    def __init__(self, server: RunningServer, room: str, token: str | None, **headers: str) -> None:
        self.server = server
        self.room = quote(room, safe="")
        self.name = room
        self.query = "" if token is None else f"token={token}"
        self.token = token
        self.headers = headers

    async def websocket(self) -> str:
        peer = await self._peer(f"/v1/ws?{self.query}")
        if peer is None:
            return "forbidden"
        first = await peer.receive()
        if first["type"] == "disconnect":
            return await _closed(peer)
        reply = await peer.ask("join", room=self.name)
        return IN if reply["type"] == "joined" else _word(reply["code"])

    async def tutorial(self) -> str:
        peer = await self._peer(f"/ws/rooms/{self.room}/ann?{self.query}")
        if peer is None:
            return "forbidden"
        with suppress(ConnectionClosed):  # who is turned away learns it soon
            await peer.send({"text": "hello"})
        frames, _, reason = await _until_the_end_or_hello(peer)
        if reason is None:
            return IN
        errors = [frame["code"] for frame in frames if frame["type"] == "error"]
        return _word(errors[0] if errors else reason)

    async def stream(self) -> str:
        source = await self.server.events(f"room={self.room}&{self.query}", **self.headers)
        if source.status != 200:
            return _word(json.loads(await source.response.aread())["error"]["code"])
        first = await source.next()
        assert first is not None
        if first.name == "disconnect":
            return _word(first.frame["reason"])
        await source.expect("joined", room=self.name)
        return IN

    async def http(self) -> str:
        headers = dict(self.headers)
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        answer = await self.server.request(
            "POST", f"/v1/rooms/{self.room}/messages", json={"data": "hello"}, headers=headers
        )
        return IN if answer.is_success else _word(refused(answer)["code"])

    async def _peer(self, path: str) -> Peer | None:
        try:
            return await self.server.connect(path, additional_headers=self.headers)
        except InvalidStatus as refusal:
            return None if refusal.response.status_code == 403 else _unexpected(refusal)


def _unexpected(refusal: InvalidStatus) -> NoReturn:
    raise AssertionError(refusal.response.status_code)


def _word(told: str) -> str:
    word = told.partition(":")[0]
    return "forbidden" if word in _FORBIDDEN else word.replace("not_found", "bad_name")


async def _closed(peer: Peer) -> str:
    _, _, reason = await peer.ending()
    return _word(reason)


async def _until_the_end_or_hello(
    peer: Peer,
) -> tuple[list[dict[str, Any]], int | None, str | None]:
    frames = []
    try:
        while True:
            frames.append(await peer.receive())
            if frames[-1].get("text") == "hello":
                return frames, None, None
    except ConnectionClosed as end:
        received = end.rcvd
    assert received is not None
    return frames, received.code, received.reason


WAYS: dict[str, Callable[[Visit], Awaitable[str]]] = {
    "websocket": Visit.websocket,
    "tutorial": Visit.tutorial,
    "stream": Visit.stream,
    "http": Visit.http,
}

every_way = pytest.mark.parametrize("way", WAYS)


@every_way
async def test_a_good_token_opens_its_rooms_and_no_other(serve: Serve, way: str) -> None:
    server = await serve(**JWT)
    grants = {"tea": ALL, "team-*": ALL, "none": []}
    found = {}
    for room in ("tea", "team-a", "team-", "team", "Tea", "tea2", "none", "@bob", "@ann", "other"):
        visit = Visit(server, room, token("ann", rooms=grants))
        found[room] = await WAYS[way](visit)
    # A personal room is read by its owner without a grant, and published to with one only.
    personal = IN if way in ("websocket", "stream") else "forbidden"
    assert found == {
        "tea": IN,
        "team-a": IN,
        "team-": IN,
        "team": "forbidden",
        "Tea": "forbidden",
        "tea2": "forbidden",
        "none": "forbidden",
        "@bob": "forbidden",
        "@ann": personal,
        "other": "forbidden",
    }


@every_way
async def test_no_bad_token_opens_anything(serve: Serve, way: str) -> None:
    server = await serve(**JWT, limits={"auth_timeout": 0.05})
    for kind, (make, code) in BAD_TOKENS.items():
        assert await WAYS[way](Visit(server, "tea", make("ann"))) == code, kind
    assert await WAYS[way](Visit(server, "tea", None)) == "token_missing"
    assert server.metric("sessions_opened_total") == 0
    assert server.metric("messages_published_total") == 0


@every_way
async def test_what_was_revoked_or_blocked_is_out(serve: Serve, way: str) -> None:
    server = await serve(**JWT)
    good = token("ann", jti="t1")
    assert await WAYS[way](Visit(server, "tea", good)) == IN
    control = server.container.control()
    await control.give(RevokeToken("t1", time.time() + 600))
    assert await WAYS[way](Visit(server, "tea", good)) == "token_revoked"
    assert await WAYS[way](Visit(server, "tea", token("ann", jti="t2"))) == IN
    await control.give(Block(UserId("ann"), time.time() + 600))
    assert await WAYS[way](Visit(server, "tea", token("ann", jti="t3"))) == "forbidden"


@every_way
@pytest.mark.parametrize(
    "origin",
    [
        "null", "", "https://evil.example", "https://app.example.evil.example", "https://evilapp.example",
        "http://app.example", "https://app.example:444", "https://app.example/", "https://APP.example.",
        "https://app.example@evil.example", "https://app.example%00.evil.example", "app.example",
        "https://app.example, https://app.example", "file://", "chrome-extension://abc",
    ],
)  # fmt: skip
async def test_a_page_of_elsewhere_is_refused(serve: Serve, way: str, origin: str) -> None:
    server = await serve(**JWT, origins=["https://app.example"])
    visit = Visit(server, "tea", token("ann"), Origin=origin)
    assert await WAYS[way](visit) == "forbidden"
    assert server.metric("sessions_opened_total") == 0
    assert server.metric("messages_published_total") == 0


@every_way
@pytest.mark.parametrize("origin", ["https://app.example", "https://APP.example:443"])
async def test_a_listed_page_is_let_in(serve: Serve, way: str, origin: str) -> None:
    server = await serve(**JWT, origins=["https://app.example"])
    assert await WAYS[way](Visit(server, "tea", token("ann"), Origin=origin)) == IN


TRICKS = [
    "a b", "a/b", "a%2fb", "../tea", "tea\0", "tea\n", "tea\r\nx", "\u202eaet", "te\u0301a",
    "\uff54ea", "tea\u200b", "t\u0435a", "{tea}", "tea}", "*", "te*", "@", "@@a b", "a" * 129, "",
    "a,b", "a;b", "a'b", 'a"b', "a\\b", "<b>", "a?b", "a#b", "\U0001f375",
]  # fmt: skip


@every_way
async def test_a_name_with_a_trick_is_refused_and_makes_no_room(serve: Serve, way: str) -> None:
    server = await serve()
    for name in TRICKS:
        verdict = await WAYS[way](Visit(server, name, None))
        if way == "tutorial" and name in ("", "a/b", "../tea"):
            assert verdict == "bad request", name  # not even a door
        elif way in ("stream", "http") and not name:
            assert verdict in ("bad_frame", "bad_name"), name
        else:
            assert verdict == "bad_name", name
    assert server.metric("messages_published_total") == 0
    rooms = server.container.hub()._rooms
    assert [room for room in rooms if not room.startswith("@guest-")] == []


VALUES: dict[str, str] = {
    "NaN": "NaN",
    "Infinity": "-Infinity",
    "1e400": "1e400",
    "-1e400 inside": "[[-1e400]]",
    "an integer beyond doubles": "9" * 400,
    "a lone surrogate": '"\\ud800"',
    "a lone low surrogate": '"\\udc00x"',
    "surrogates the wrong way round": '"\\udc00\\ud800"',
    "a surrogate as a key": '{"\\ud800":1}',
    "a raw newline": '"a\nb"',
    "a raw NUL": '"\x00"',
    "depth 65": "[" * 65 + "]" * 65,
    "depth 1000": "[" * 1000 + "]" * 1000,
    "depth 30000": "[" * 30_000,
    "octal": "010",
    "hexadecimal": "0x10",
    "a plus": "+1",
    "a lone minus": "-",
    "half a float": "1.",
    "a comma too many": "[1,]",
}


@pytest.mark.parametrize("name", VALUES)
async def test_what_cannot_be_passed_on_is_refused_everywhere(serve: Serve, name: str) -> None:
    server = await serve(limits={"frame_bytes": 65_536})
    reader = await server.events("room=r&user=reader")
    await reader.joined("r")
    member, _ = await server.member("member", "r")

    ann = await server.user("ann")
    await ann.send_raw('{"type":"publish","room":"r","id":1,"data":' + VALUES[name] + "}")
    assert (await ann.receive())["code"] == "bad_frame"
    door = await server.connect("/ws/rooms/r/bob")
    await member.expect("join", user="bob")
    await door.send_raw('{"text":' + VALUES[name] + "}")
    assert (await door.receive())["code"] == "bad_frame"
    answer = await server.request(
        "POST", "/v1/rooms/r/messages", content='{"data":' + VALUES[name] + "}"
    )
    assert (answer.status_code, refused(answer)["code"]) == (400, "bad_frame")

    end = {"text": "end"}
    assert (await ann.ask("publish", room="r", data=end, echo=False))["seq"] == 1
    await member.expect("message", seq=1, data=end)
    await door.expect("message", text="end")
    await reader.expect("message", seq=1, data=end)


SAME: dict[str, tuple[str, Any]] = {
    "the largest double": ("1.7976931348623157e308", 1.7976931348623157e308),
    "the smallest double": ("5e-324", 5e-324),
    "minus zero": ("-0.0", 0.0),
    "2^64": ("18446744073709551616", 2**64),
    "a pair of surrogates": ('"\\ud83c\\udf75"', "\U0001f375"),
    "of equal keys the last": ('{"a":1,"a":2}', {"a": 2}),
    "separators of lines": ('"\\u2028\\u2029\\u0085"', "\u2028\u2029\u0085"),
    "script": ('"</script><!--"', "</script><!--"),
}


@pytest.mark.parametrize("name", SAME)
async def test_what_can_be_passed_on_is_the_same_for_everybody(serve: Serve, name: str) -> None:
    raw, value = SAME[name]
    server = await serve()
    reader = await server.events("room=r&user=reader")
    await reader.joined("r")
    member, _ = await server.member("member", "r")
    ann = await server.user("ann")
    await ann.send_raw('{"type":"publish","room":"r","id":1,"echo":false,"data":' + raw + "}")
    await server.request("POST", "/v1/rooms/r/messages", content='{"data":' + raw + "}")
    for seq in (1, 2):
        await member.expect("message", seq=seq, data=value)
        await reader.expect("message", seq=seq, data=value)
    page = await server.get("/v1/rooms/r/messages")
    assert [message["data"] for message in page.json()["messages"]] == [value, value]
