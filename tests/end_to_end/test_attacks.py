"""What somebody tries who means harm, against the whole server: rows of docs/security.md."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api import Api
from tests.leftovers import our_tasks
from tests.peer import until
from tests.running_server import RunningServer, Serve
from tests.server_process import ServeProcess
from tests.tokens import JWT, token
from tests.wire import Wire, text

ROOT = Path(__file__).parents[2]
ALL = ["join", "publish", "history", "members"]


async def raw_status(server: RunningServer, *lines: str) -> int:
    """The status of the answer to a request written by hand."""
    wire = await Wire.connect(server.port)
    await wire.sent(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
    head = await wire.head()
    await wire.shut()
    return int(head.split(b" ", 2)[1])


# Hosts and paths

HOSTS = [
    "", "a b", "[::1", "a:b:c", "a@127.0.0.1", "127.0.0.1:99999", "127.0.0.1/v1/ready",
    "evil.example?",
    "x/v1/rooms/tea/messages?y=", "/healthz", "healthz#", "..", "%2f%2e", "\xff\xfe", "a" * 8000,
    "localhost, evil.example",
]  # fmt: skip


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: ascii(host[:20]))
async def test_a_malformed_host_opens_and_hides_nothing(serve: Serve, host: str) -> None:
    server = await serve(**JWT)
    closed = await raw_status(server, "POST /v1/rooms/tea/messages HTTP/1.1", f"Host: {host}")
    assert closed in (400, 401)
    assert await raw_status(server, "GET /healthz HTTP/1.1", f"Host: {host}") in (200, 400)
    nowhere = await raw_status(server, "GET /nowhere HTTP/1.1", f"Host: {host}")
    assert nowhere in (400, 404)
    other = await raw_status(server, "PUT /v1/rooms/tea/messages HTTP/1.1", f"Host: {host}")
    assert other in (400, 405)


async def test_the_allowed_methods_are_those_of_the_path_and_not_of_the_host(serve: Serve) -> None:
    server = await serve(**JWT)
    wire = await Wire.connect(server.port)
    await wire.sent(b"PUT /v1/rooms/tea/messages HTTP/1.1\r\nHost: a/v1/rooms?\r\n\r\n")
    head = await wire.head()
    assert b"allow: GET, POST\r\n" in head.lower().replace(b"get, post", b"GET, POST"), head
    await wire.shut()


PATHS = [
    "/v1/rooms/tea/messages/", "//v1/rooms/tea/messages", "/v1//rooms/tea/messages",
    "/V1/rooms/tea/messages",
    "/v1/rooms/tea%2fmessages", "/v1/rooms/tea/../tea/messages", "/v1/rooms/./tea/messages",
    "/./v1/rooms/tea/messages", "/v1/rooms/tea/messages;x", "/v1/rooms/tea/messages%00",
    "/v1/rooms/tea/messages%20", "/v1/rooms/%74%65%61/messages",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
async def test_no_spelling_of_a_path_leads_past_the_key(serve: Serve, path: str) -> None:
    server = await serve(**JWT)
    for method in ("GET", "POST"):
        status = await raw_status(server, f"{method} {path} HTTP/1.1", "Host: 127.0.0.1")
        assert status in (400, 401, 404, 405), status


# Rooms one was put out of


async def test_who_was_put_out_reads_nothing_more_whichever_way(serve: Serve) -> None:
    server = await serve(**JWT)
    ann = await server.connect(f"/v1/ws?token={token('ann', rooms={'tea': ALL})}")
    await ann.expect("connected")
    await ann.expect("joined")
    joined = await ann.ask("join", room="tea")
    stream = await server.events(f"room=tea&token={token('ann', rooms={'tea': ALL})}")
    (seen,) = await stream.joined("tea")
    narrow = token("ann", rooms={"other": ALL})
    assert (await ann.ask("auth", token=narrow))["type"] == "ack"
    await ann.expect("removed", room="tea")

    backend = await server.connect(f"/v1/ws?token={token('bob')}")
    await backend.expect("connected")
    await backend.expect("joined")
    assert (await backend.ask("publish", room="tea", data="secret", echo=False))["seq"] == 1

    asks: list[tuple[str, dict[str, Any]]] = [
        ("join", {"position": joined["position"]}),
        ("join", {"history": 10}),
        ("history", {}),
        ("history", {"after": 0}),
        ("members", {}),
    ]
    for kind, fields in asks:
        reply = await ann.ask(kind, room="tea", **fields)
        assert (reply["type"], reply["code"]) == ("error", "not_granted"), reply
    assert (await ann.ask("publish", room="tea", data=1))["code"] == "not_granted"
    api = Api(server, narrow)
    for path in ("/v1/rooms/tea/messages", "/v1/rooms/tea/members"):
        assert await api.refusal("GET", path) == (403, "not_granted")
    again = await server.events(f"room=tea&token={narrow}", seen.id)
    assert (await again.refused()).frame["code"] == 4003
    assert await ann.is_quiet()


# Much of something


async def test_a_flood_of_commands_makes_few_tasks(serve: Serve) -> None:
    server = await serve()
    ann = await server.user("ann")
    before, most = len(our_tasks()), 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, len(our_tasks()) - before)
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    kinds = ("join", "members", "history", "leave")
    for number in range(4000):
        await ann.send({"type": kinds[number % 4], "room": f"room{number % 300}"})
    watching.cancel()
    burst = server.settings.limits.commands_burst
    assert most <= burst + 100


RANGES = [
    "bytes=0-0",
    "bytes=-1",
    "bytes=5-1",
    "bytes=" + ",".join(f"{n}-" for n in range(2000)),
    "x",
]


@pytest.mark.parametrize("wanted", RANGES, ids=lambda wanted: wanted[:12])
async def test_parts_of_a_page_are_not_served(serve: Serve, wanted: str) -> None:
    server = await serve()
    whole = await server.get("/")
    answer = await server.get("/", headers={"Range": wanted})
    assert (answer.status_code, answer.content) == (200, whole.content)
    assert "accept-ranges" not in answer.headers


# Lines and headers


BREAKS = ["%0d%0aSet-Cookie:%20a=b%0d%0a", "%0aINJECTED", "%0d", "%e2%80%a8", "%00", "%1b%5b2J"]


@pytest.mark.parametrize("hostile", BREAKS)
async def test_nothing_of_an_address_becomes_a_header_or_a_line(serve: Serve, hostile: str) -> None:
    server = await serve()
    answers = [
        await server.get(f"/v1/rooms/a{hostile}/messages"),
        await server.request("POST", f"/v1/users/a{hostile}/disconnect"),
        await server.get(f"/v1/rooms/a/messages?before={hostile}"),
        await server.get(f"/a{hostile}"),
        await server.get(f"/?{hostile}"),
    ]
    for answer in answers:
        assert answer.status_code in (200, 400, 404, 422)
        assert "set-cookie" not in answer.headers
        assert "INJECTED" not in "".join(answer.headers.values())
    peer = await server.connect(f"/ws/rooms/a{hostile}/ann")
    _, code, reason = await peer.ending()
    assert code == 4000
    assert reason.isprintable()
    stream = await server.events(f"room=a&room=b{hostile}")
    assert stream.status == 400
    for line in server.log.text.splitlines():
        assert line.isprintable()
        assert not line.startswith(("INJECTED", "Set-Cookie"))


# Secrets and numbers

SECRETS = {
    "HUBBUB_AUTH__HMAC_SECRET": "canary-secret-canary-secret-canary",
    "HUBBUB_API_KEY": "canary-key-canary-key",
    "HUBBUB_REDIS_URL": "redis://canary-user:canary-password@127.0.0.1:1/0",
}


async def test_secrets_are_shown_nowhere(serve_process: ServeProcess, tmp_path: Path) -> None:
    further = {"HUBBUB_BACKEND": "redis", "HUBBUB_LOG_LEVEL": "debug", "HUBBUB_AUTH__MODE": "jwt"}
    process = await serve_process(**SECRETS, **further)
    checking = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "entrypoints.cli", "check"),
        cwd=tmp_path,
        env={**SECRETS, **further, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    checked, _ = await checking.communicate()
    assert checking.returncode == 0, checked

    shown = [checked.decode()]
    key = {"Authorization": f"Bearer {SECRETS['HUBBUB_API_KEY']}"}
    wrong = {"Authorization": f"Bearer {SECRETS['HUBBUB_API_KEY']}x"}
    async with httpx.AsyncClient(base_url=process.url, trust_env=False, timeout=20) as client:
        for path in (
            "/",
            "/healthz",
            "/readyz",
            "/metrics",
            "/openapi.json",
            "/v1/rooms",
            "/nowhere",
        ):
            for headers in ({}, key, wrong):
                answer = await client.get(path, headers=headers)
                shown += [answer.text, str(answer.headers)]
        answer = await client.post("/v1/rooms/tea/messages", headers=key, json={"data": 1})
        assert answer.status_code == 503
        shown += [answer.text, str(answer.headers)]
    await process.stop()
    assert "127.0.0.1:1" in process.stderr
    for text_ in (*shown, process.stderr):
        assert "canary" not in text_, text_


async def test_names_are_in_no_metric_and_add_no_line(serve: Serve) -> None:
    server = await serve()

    async def scrape() -> set[str]:
        lines = (await server.get("/metrics")).text.splitlines()
        return {line.rpartition(" ")[0] for line in lines if not line.startswith("#")}

    async def visit(name: str) -> None:
        peer, _ = await server.member(name, f"room-{name}")
        await peer.ask("publish", room=f"room-{name}", data=1, key=name)
        await peer.ask("nonsense")
        await peer.close(3000 + len(name))

    await visit("canary0")
    first = await scrape()
    for number in range(10, 40):
        await visit(f"canary{number}" + "x" * number)
    assert await scrape() == first
    assert not [line for line in first if "canary" in line]


# Half of something


async def test_bad_frames_end_nothing_but_their_connection(serve: Serve) -> None:
    """A byte changed anywhere in what a good client sends."""
    server = await serve()
    witness, _ = await server.member("witness", "r")
    good = text('{"type":"publish","room":"r","data":"x","id":1}')
    for place in range(0, len(good), 3):
        wire = await Wire.upgraded(server.port, "/v1/ws?user=mallory")
        changed = bytearray(good)
        changed[place] ^= 0x55
        await wire.sent(bytes(changed))
        await wire.shut()
    await until(lambda: server.sessions() == 1)
    assert (await witness.ask("ping"))["type"] == "pong"
