"""Commands that ask a running server for one thing."""

import asyncio
import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from entrypoints import cli_rooms
from entrypoints.cli_rooms import _Pages
from entrypoints.http.api.shapes import HistoryPage, Message
from entrypoints.remote.lines import harmless, message_line, safe
from entrypoints.remote.problems import Exit, Problem
from entrypoints.remote.publishing import Done, Publisher, Wish
from entrypoints.remote.server import read_target
from entrypoints.settings import SettingsError, load_settings
from tests.api import KEY, WITH_A_KEY, Api
from tests.certificates import certificate
from tests.command_line import answering, complaint, hubbub, response, running, told
from tests.running_server import RunningServer, Serve
from tests.tokens import JWT, token

COMMANDS = {
    "publish": ("lobby", "1"),
    "tail": ("lobby",),
    "rooms": (),
    "members": ("lobby",),
    "history": ("lobby",),
    "kick": ("lobby", "bob"),
    "disconnect": ("bob",),
    "block": ("bob",),
    "unblock": ("bob",),
    "top": ("--once",),
}


@pytest.fixture
def transport() -> str:
    """It is the same HTTP."""
    return "lane"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# Publishing


async def test_a_message_arrives_and_its_number_is_told(serve: Serve) -> None:
    server = await serve()
    ann, _ = await server.member("ann", "lobby")
    url = ("--url", server.url)
    assert (
        await told("publish", "lobby", '{"a": [1, null]}', *url)
        == "published to lobby as number 1\n"
    )
    await ann.expect("message", seq=1, data={"a": [1, None]}, **{"from": None})
    await told("publish", "lobby", "--text", "hello - \N{SNOWMAN}", "--from", "bob", *url)
    await ann.expect("message", seq=2, data={"text": "hello - \N{SNOWMAN}"}, **{"from": "bob"})
    await told("publish", "lobby", "true", HUBBUB_URL=server.url)
    await ann.expect("message", seq=3, data=True)


async def test_with_a_key_it_is_one_message(serve: Serve) -> None:
    server = await serve()
    ask = ("publish", "lobby", "1", "--key", "order-1", "--url", server.url)
    assert await told(*ask) == "published to lobby as number 1\n"
    assert await told(*ask) == "published to lobby before, as number 1\n"
    done = json.loads(await told(*ask, "--json"))
    assert (done["seq"], done["duplicate"], done["room"]) == (1, True, "lobby")
    assert set(done) == {"room", "seq", "log", "message_id", "duplicate"}


async def test_an_ephemeral_message_has_no_number(serve: Serve) -> None:
    server = await serve()
    ann, _ = await server.member("ann", "lobby")
    said = await told("publish", "lobby", "1", "--ephemeral", "--url", server.url)
    assert said == "published to lobby, for those who are there\n"
    await ann.expect("message", ephemeral=True, data=1)


@pytest.mark.parametrize("data", ["hello", "{a: 1}", "NaN", '{"a": 1} x', "[" * 100_000, ""])
async def test_what_is_no_json_is_not_sent(data: str) -> None:
    said = await complaint(Exit.USAGE, "publish", "lobby", data)
    assert "is not JSON" in said
    assert "--text" in said


@pytest.mark.parametrize("options", [(), ("--text",)])
async def test_what_is_no_text_is_not_sent(options: tuple[str, ...]) -> None:
    said = await complaint(Exit.USAGE, "publish", "lobby", "\udcff", *options)
    assert "is not UTF-8" in said


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--key", "k", "--ephemeral"), "exclude each other"),
        (("--key", "k" * 129), "1 to 128 printable"),
        (("--key", "\N{SNOWMAN}"), "1 to 128 printable"),
    ],
)
async def test_options_that_cannot_be_are_refused(options: tuple[str, ...], text: str) -> None:
    assert text in await complaint(Exit.USAGE, "publish", "lobby", "1", *options)


async def lines(
    server: RunningServer, stdin: str | bytes, *options: str, room: str = "lobby"
) -> Any:
    return await hubbub("publish", room, "-", *options, "--url", server.url, stdin=stdin)


async def messages(server: RunningServer, room: str = "lobby") -> list[Any]:
    answer = await Api(server, None)("GET", f"/v1/rooms/{room}/messages")
    return [message["data"] for message in answer["messages"]]


async def test_each_line_is_a_message(serve: Serve) -> None:
    server = await serve()
    result = await lines(server, '1\n\n{"b": 2}\r\n"three"')
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "hubbub: 3 messages published to lobby, the last one as number 3\n"
    assert await messages(server) == [1, {"b": 2}, "three"]
    result = await lines(server, "one line\n", "--text", "--json")
    assert json.loads(result.stdout)["seq"] == 4
    assert (await messages(server))[-1] == {"text": "one line"}


async def test_lines_that_are_sent_again_are_the_same_messages(serve: Serve) -> None:
    server = await serve()
    for _ in range(2):
        await lines(server, "1\n2\n3\n", "--key", "batch")
    assert await messages(server) == [1, 2, 3]


@pytest.mark.parametrize(
    ("line", "code", "text"),
    [
        (b"hello", Exit.USAGE, "line 3 is not JSON"),
        (b"\xff", Exit.USAGE, "line 3 is not UTF-8"),
        (b'"' + b"x" * 70_000 + b'"', Exit.FAILED, "line 3: a body may have"),
    ],
)
async def test_a_line_that_cannot_be_ends_it_and_is_named(
    serve: Serve, line: bytes, code: Exit, text: str
) -> None:
    server = await serve()
    result = await lines(server, b"1\n2\n" + line + b"\n4\n")
    assert result.exit_code == code
    count, error = result.stderr.splitlines()
    assert count == "hubbub: 2 messages published to lobby, the last one as number 2"
    assert text in error
    assert await messages(server) == [1, 2]


async def test_who_is_too_fast_waits(serve: Serve) -> None:
    server = await serve(rooms=[{"match": "slow", "rate": 40}])
    result = await lines(server, "".join(f"{n}\n" for n in range(60)), room="slow")
    assert result.exit_code == 0, result.stderr
    assert await messages(server, "slow") == list(range(60))
    assert server.metric("messages_published_total") == 60


async def test_a_line_is_sent_as_it_comes_and_ctrl_c_tells_how_far_it_came(serve: Serve) -> None:
    server = await serve()
    ann, _ = await server.member("ann", "lobby")
    ask = ("publish", "lobby", "-", "--json", "--url", server.url)
    async with running(*ask, stdin=asyncio.subprocess.PIPE) as command:
        for number in (1, 2):
            await command.write(f"{number}\n")
            await ann.expect("message", seq=number, data=number)
            assert json.loads(await command.line())["seq"] == number
        command.interrupt()
        assert await command.ended() == 130
        assert command.errors == (
            "hubbub: 2 messages published to lobby, the last one as number 2\n"
        )


class Flaky:
    """A server whose answers are lost before they come, now and then."""

    def __init__(self, *problems: Problem | None) -> None:
        self.problems = list(problems)
        self.keys: list[object] = []

    def ask(self, method: str, path: str, shape: type[Done], *, content: bytes) -> Done:
        self.keys.append(json.loads(content).get("key"))
        problem = self.problems.pop(0) if self.problems else None
        if problem is not None:
            raise problem
        return Done("lobby", 1)


LOST = Problem("no answer", Exit.UNREACHABLE, 0.0)
AGAIN = Problem("not now (unavailable)", Exit.FAILED, 0.5)
NEVER = Problem("no (key_conflict)", Exit.FAILED)


def publisher(server: Any, *, ephemeral: bool = False) -> tuple[Publisher, list[float]]:
    slept: list[float] = []
    now = [0.0]

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    wish = Wish("lobby", ephemeral=ephemeral)
    return Publisher(server, wish, sleep=sleep, clock=lambda: now[0]), slept


def test_a_message_whose_answer_is_lost_is_sent_again_with_the_same_key() -> None:
    server = Flaky(None, LOST, AGAIN, LOST)
    send, slept = publisher(server)
    send({"data": 1})
    assert send({"data": 2}).seq == 1
    first, *others = server.keys
    assert len(others) == 4
    assert len({*others}) == 1
    assert first not in others
    assert slept[1] >= 0.5


def test_a_server_that_was_never_there_is_told_at_once() -> None:
    send, slept = publisher(Flaky(LOST))
    with pytest.raises(Problem):
        send({"data": 1})
    assert not slept


def test_what_cannot_succeed_is_not_tried_again() -> None:
    server = Flaky(NEVER)
    with pytest.raises(Problem):
        publisher(server)[0]({"data": 1})
    assert len(server.keys) == 1


def test_it_is_not_tried_for_ever() -> None:
    server = Flaky(*[AGAIN] * 1000)
    send, slept = publisher(server)
    with pytest.raises(Problem):
        send({"data": 1})
    assert 10 < sum(slept) <= 31
    assert len(slept) < 40


def test_an_ephemeral_message_is_not_sent_again_where_it_may_have_gone_out() -> None:
    server = Flaky(None, LOST)
    send, _ = publisher(server, ephemeral=True)
    send({"data": 1})
    with pytest.raises(Problem):
        send({"data": 2})
    assert server.keys == [None, None]


# Rooms, members, history


@pytest.fixture(params=[100, 2])
def page(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """What is asked for at once."""
    monkeypatch.setattr(cli_rooms, "_PAGE", request.param)
    return int(request.param)


async def test_rooms_are_listed_with_their_users(serve: Serve, page: int) -> None:
    server = await serve(rooms=[{"match": "quiet", "presence": "off"}])
    ann = await server.user("ann")
    for room in ("a:1", "a:2", "a:3", "b:1", "quiet"):
        await ann.ask("join", room=room)
    await server.member("bob", "a:2")
    assert await told("rooms", "--url", server.url) == (
        "ROOM   USERS\na:1    1\na:2    2\na:3    1\nb:1    1\nquiet  -\n"
    )
    assert await told("rooms", "a:", "--limit", "2", "--json", "--url", server.url) == (
        '{"room":"a:1","count":1}\n{"room":"a:2","count":2}\n'
    )


async def test_members_are_listed(serve: Serve, page: int) -> None:
    server = await serve(**JWT)
    for name in ("ann", "bob", "cleo"):
        info = {"name": "\u202eevil\x9b2J"} if name == "bob" else None
        peer = await server.connect(f"/v1/ws?token={token(name, info=info)}")
        await peer.ask("join", room="tea")
    options = ("--url", server.url, "--token", token("ann"))
    assert (await told("members", "tea", *options)).splitlines() == [
        "USER  SESSIONS  INFO",
        "ann   1",
        'bob   1         {"name":"\\u202eevil\\u009b2J"}',
        "cleo  1",
    ]
    told_as_json = await told("members", "tea", "--limit", "1", "--json", *options)
    assert json.loads(told_as_json) == {"user": "ann", "info": None, "sessions": 1}


async def test_members_that_are_not_listed_are_counted(serve: Serve) -> None:
    rooms = [{"match": "count", "presence": "count"}, {"match": "off", "presence": "off"}]
    server = await serve(rooms=rooms)
    ann = await server.user("ann")
    for room in ("count", "off"):
        await ann.ask("join", room=room)
    result = await hubbub("members", "count", "--url", server.url)
    assert "users in count: 1; " in result.stderr
    assert json.loads(await told("members", "count", "--json", "--url", server.url)) == {"count": 1}
    result = await hubbub("members", "off", "--url", server.url)
    assert "off keeps no presence" in result.stderr


def numbers(lines: str) -> list[int]:
    return [json.loads(line)["seq"] for line in lines.splitlines()]


async def test_history_comes_oldest_first(serve: Serve, page: int) -> None:
    server = await serve()
    api = Api(server, None)
    for number in range(1, 8):
        await api("POST", "/v1/rooms/lobby/messages", {"data": number, "from": "ann"})
    ask = ("history", "lobby", "--url", server.url)
    assert numbers(await told(*ask, "--json")) == [1, 2, 3, 4, 5, 6, 7]
    assert numbers(await told(*ask, "--json", "--limit", "3")) == [5, 6, 7]
    assert numbers(await told(*ask, "--json", "--before", "6", "--limit", "4")) == [2, 3, 4, 5]
    assert numbers(await told(*ask, "--json", "--after", "2", "--limit", "3")) == [3, 4, 5]
    assert numbers(await told(*ask, "--json", "--after", "2", "--before", "7")) == [3, 4, 5, 6]
    assert numbers(await told(*ask, "--json", "--after", "7")) == []
    first = (await told(*ask)).splitlines()[0]
    assert first.split("  ")[1:] == ["lobby 1", "ann", "1"]


def test_a_log_that_ends_meanwhile_is_not_mixed_with_the_next(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli_rooms, "_PAGE", 1)

    asked: list[Any] = []

    class Forgetful:
        def ask(self, *_: object, params: Any) -> HistoryPage:
            asked.append(params)
            if len(asked) == 1:
                return HistoryPage(
                    "r", "old", [Message(seq=9, id="i", sender=None, data=1, ts=0)], True
                )
            return HistoryPage("r", "new", [], False)

    pages = _Pages(Forgetful(), "r", 5, None)  # type: ignore[arg-type]  # as much of one as is used
    seqs = [message.seq for found in pages.older() for message in found.messages]
    assert seqs == [9]
    assert asked[1] == {"limit": 1, "before": 9, "log": "old"}
    assert "another log" in capsys.readouterr().err


# Users


async def test_a_user_is_kicked(serve: Serve) -> None:
    server = await serve()
    bob, _ = await server.member("bob", "lobby")
    said = await told("kick", "lobby", "bob", "--reason", "be nice", "--url", server.url)
    assert said == "bob is taken out of lobby\n"
    await bob.expect("removed", room="lobby", code="kicked", reason="be nice")


async def test_a_user_is_disconnected_blocked_and_let_in_again(serve: Serve) -> None:
    server = await serve()
    bob = await server.user("bob")
    url = ("--url", server.url)
    await told("disconnect", "bob", "--reason", "bye", *url)
    code, reason = await bob.closed_after_farewell()
    assert (code, "bye" in reason) == (4003, True)
    bob = await server.user("bob")
    await told("block", "bob", "--for", "2h", *url)
    assert (await bob.closed_after_farewell())[0] == 4003
    refused = await server.connect("/v1/ws?user=bob")
    assert (await refused.closed_after_farewell())[0] == 4003
    assert await told("unblock", "bob", *url) == "bob is let in again\n"
    await server.user("bob")


async def test_a_duration_that_is_none_blocks_nobody() -> None:
    said = await complaint(Exit.USAGE, "block", "bob", "--for", "soon")
    assert "write 30s, 15m, 12h or 7d" in said


# What goes wrong


@pytest.mark.parametrize("command", COMMANDS)
async def test_nobody_there(command: str) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    said = await complaint(Exit.UNREACHABLE, command, *COMMANDS[command], "--url", url)
    assert url in said
    assert "is the server running?" in said
    assert "HUBBUB_URL" in said


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - {"top"}))
async def test_a_key_that_is_none(serve: Serve, command: str) -> None:
    server = await serve(**JWT, **WITH_A_KEY)
    ask = (command, *COMMANDS[command], "--url", server.url)
    for options in ({}, {"HUBBUB_API_KEY": "a-wrong-key"}, {"HUBBUB_TOKEN": token("bob", -60)}):
        said = await complaint(Exit.REFUSED, *ask, **options)
        assert "set HUBBUB_API_KEY or HUBBUB_TOKEN" in said
        assert not any(secret in said for secret in options.values())


async def test_a_key_or_a_token_opens_it(serve: Serve) -> None:
    server = await serve(**JWT, **WITH_A_KEY)
    ask = ("publish", "lobby", "1", "--url", server.url)
    await told(*ask, HUBBUB_API_KEY=KEY)
    await told(*ask, "--api-key", KEY)
    await told(*ask, HUBBUB_TOKEN=token("ann"))
    await told(*ask, "--token", token("ann"))
    # Whoever has both around: only the token is there for this and nothing else.
    await told(*ask, HUBBUB_TOKEN=token("bob"), HUBBUB_API_KEY="of-some-other-server")
    api = Api(server)
    found = await api("GET", "/v1/rooms/lobby/messages")
    assert [message["from"] for message in found["messages"]] == [None, None, "ann", "ann", "bob"]


async def test_what_is_not_allowed(serve: Serve) -> None:
    server = await serve(**JWT)
    ask = ("--url", server.url, "--token", token("ann"))
    assert "not allowed" in await complaint(Exit.REFUSED, "kick", "lobby", "bob", *ask)
    assert "own user only" in await complaint(
        Exit.REFUSED, "publish", "lobby", "1", "--from", "bob", *ask
    )


@pytest.mark.parametrize("name", ["a b", "", "a/b", "../x", "\N{SNOWMAN}", "x" * 129, "a\x1b[2J"])
async def test_a_name_that_is_none(name: str) -> None:
    for ask in (("publish", name, "1"), ("tail", name), ("kick", "lobby", name)):
        said = await complaint(Exit.BAD_NAME, *ask, "--url", f"http://127.0.0.1:{free_port()}")
        assert "name is 1 to 128 of" in said
        assert "\x1b" not in said


async def test_names_that_look_like_folders(serve: Serve) -> None:
    server = await serve()
    for room in (".", "..", "a..b", "@ann", "~:x@-"):
        said = await told("publish", room, "1", "--url", server.url)
        assert said == f"published to {room} as number 1\n"


STRANGERS: dict[str, Callable[[bytes], bytes]] = {
    "a page": lambda head: response(b"<html>hello</html>", kind="text/html"),
    "another api": lambda head: response(b'{"ok": true}'),
    "no such page": lambda head: response(b"<h1>404</h1>", "404 Not Found", "text/html"),
    "a list": lambda head: response(b"[]"),
    "another protocol": lambda head: b"220 mail.example ESMTP\r\n\r\n",
    "another stream": lambda head: response(b'data: "hi"\n\n', kind="text/event-stream"),
    "another answer": lambda head: response(b'data: {"a": 1}\n\n', kind="text/event-stream"),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("stranger", STRANGERS)
async def test_somebody_else_answers(command: str, stranger: str) -> None:
    async with answering(STRANGERS[stranger]) as url:
        said = await complaint(Exit.STRANGER, command, *COMMANDS[command], "--url", url)
    assert url in said
    assert "is no hubbub: check --url" in said


async def test_a_proxy_whose_server_is_away() -> None:
    away = response(b"<h1>502 Bad Gateway</h1>", "502 Bad Gateway", "text/html")
    async with answering(lambda head: away) as url:
        for command, arguments in COMMANDS.items():
            said = await complaint(Exit.UNREACHABLE, command, *arguments, "--url", url)
            assert "the server behind it is away" in said


async def test_a_certificate_is_verified(serve: Serve, tmp_path: Path) -> None:
    certfile, keyfile = certificate(tmp_path)
    server = await serve(ssl_certfile=certfile, ssl_keyfile=keyfile)
    ask = ("publish", "lobby", "1", "--url", server.url)
    said = await complaint(Exit.UNREACHABLE, *ask)
    assert "name the file of its authority in SSL_CERT_FILE" in said
    assert "as number 1" in await told(*ask, SSL_CERT_FILE=str(certfile))
    plain = server.url.replace("https", "http")
    await complaint(Exit.UNREACHABLE, *ask[:-1], plain)


async def test_a_server_that_hangs_up() -> None:
    async with answering(lambda head: b"") as url:
        said = await complaint(Exit.UNREACHABLE, "rooms", "--url", url)
        assert "without an answer" in said


async def test_a_path_that_is_not_there(serve: Serve) -> None:
    server = await serve()
    said = await complaint(Exit.STRANGER, "rooms", "--url", f"{server.url}/hubbub")
    assert "check the path in --url" in said


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("127.0.0.1:8000", "write it like http://"),
        ("ws://127.0.0.1:8000", "write it like http://"),
        ("http://", "write it like http://"),
        ("http://a:99999999", "write it like http://"),
        ("http://ann:pw@127.0.0.1", "no password"),
        ("http://127.0.0.1?token=x", "without anything behind"),
    ],
)
async def test_an_address_that_is_none(url: str, text: str) -> None:
    for command, arguments in COMMANDS.items():
        said = await complaint(Exit.USAGE, command, *arguments, "--url", url)
        assert text in said
        assert "pw" not in said


async def test_a_key_that_cannot_travel_is_refused_unseen() -> None:
    for key in ("a key", "k\N{SNOWMAN}", "k\n"):
        said = await complaint(Exit.USAGE, "rooms", HUBBUB_API_KEY=key)
        assert "no key or token has" in said


def test_a_key_is_in_no_text_about_a_target() -> None:
    target = read_target("http://127.0.0.1:8000/", KEY, None)
    assert KEY not in repr(target)
    assert target.url == "http://127.0.0.1:8000"


async def test_a_closed_pipe_ends_it_quietly(serve: Serve) -> None:
    server = await serve()
    api = Api(server, None)
    for number in range(50):
        await api("POST", "/v1/rooms/lobby/messages", {"data": number})
    reading, writing = os.pipe()
    os.close(reading)
    async with running("history", "lobby", "--url", server.url, stdout=writing) as command:
        os.close(writing)
        assert await command.ended() == 0
        assert command.errors == ""


def test_what_commands_take_from_the_environment_is_no_setting() -> None:
    names = {"HUBBUB_URL": "http://x", "HUBBUB_TOKEN": "t", "HUBBUB_METRICS_URL": "http://x"}
    assert load_settings(names, None, {}) == load_settings({}, None, {})
    with pytest.raises(SettingsError, match="HUBBUB_URLS is not a setting"):
        load_settings({"HUBBUB_URLS": "x"}, None, {})


# What is shown


@pytest.mark.parametrize("text", ["\x1b[2J", "\x9b2J", "\u202ereversed", "a\rb", "\x00", "\udcff"])
def test_nothing_that_others_wrote_moves_the_cursor(text: str) -> None:
    assert safe(text).isprintable()
    frame = {"room": "r", "seq": 1, "from": "ann", "ts": 0.0, "data": {"text": text}}
    assert text not in message_line(frame)


@pytest.mark.parametrize("ts", [None, "now", 1e300, float("nan"), -1e30, True])
def test_a_time_that_is_none_is_shown_as_one(ts: object) -> None:
    assert message_line({"room": "r", "seq": 1, "ts": ts, "data": 1}).endswith("1")


def test_the_day_of_a_message_is_shown_where_it_is_another_one() -> None:
    frame = {"room": "r", "seq": 1, "ts": time.time(), "data": 1}
    assert "-" not in message_line(frame).split("r 1")[0]
    assert "1970-01-0" in message_line({**frame, "ts": 0.0}) or "1969-12-31" in message_line(
        {**frame, "ts": 0.0}
    )


def test_what_is_printable_stays_as_it_is() -> None:
    family = "\N{MAN}\N{ZERO WIDTH JOINER}\N{WOMAN} \N{LATIN SMALL LETTER O WITH DIAERESIS}"
    assert safe(family) == family


def test_json_is_still_the_same_json_without_control_characters() -> None:
    raw = json.dumps({"text": "\x9b2J\x7f\u202e \x1b"}, ensure_ascii=False)
    assert "\x9b" in raw
    assert not any(0x7F <= ord(char) < 0xA0 for char in harmless(raw))
    assert json.loads(harmless(raw)) == json.loads(raw)
