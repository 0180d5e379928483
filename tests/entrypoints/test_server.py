"""The server around the application: its end, TLS, and what it refuses before the upgrade."""

import asyncio
import signal
import socket
import ssl
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from entrypoints.settings import Settings
from tests.certificates import certificate
from tests.loops import SERVED
from tests.peer import Peer, until
from tests.raw_client import RawClient
from tests.running_server import RunningServer, Serve, fit_for_tests
from tests.server_process import ServeProcess

# Who comes


def test_a_crowd_is_let_in_in_groups() -> None:
    """Not one in a turn of the loop, whichever the loop is."""

    async def crowd(count: int) -> int:
        server = RunningServer(Settings(port=0))
        await server.start()
        clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(count)]
        for _ in range(count // 2):
            await asyncio.sleep(0)
        came = server.connections()
        for client in clients:
            client.close()
        await server.stop()
        return came

    (factory,) = SERVED.values()
    with asyncio.Runner(loop_factory=factory) as runner, fit_for_tests():
        assert runner.run(crowd(40)) == 40


# Signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_process_and_tells_its_clients(
    serve_process: ServeProcess, number: signal.Signals
) -> None:
    process = await serve_process()
    ann = await Peer.connect(process.ws_url + "/v1/ws?user=ann")
    await ann.expect("connected")
    await ann.expect("joined")
    lobby = await Peer.connect(process.ws_url + "/ws/bob")
    await lobby.expect("join")
    process.signal(number)
    frames, code, _ = await ann.ending()
    assert code == 4200
    assert [frame["type"] for frame in frames] == ["disconnect"]
    assert 0 <= frames[0]["reconnect_after"] <= 1
    assert (await lobby.closed())[0] == 4200
    assert await process.ended() == 0
    assert "Traceback" not in process.stderr
    assert "ERROR" not in process.stderr


async def test_nobody_has_to_be_there_to_end(serve_process: ServeProcess) -> None:
    process = await serve_process()
    process.signal(signal.SIGTERM)
    assert await process.ended() == 0


async def test_a_client_that_does_not_answer_holds_nothing_up(serve_process: ServeProcess) -> None:
    process = await serve_process()
    deaf = await RawClient.connect(process.port, "/v1/ws?user=deaf")
    process.signal(signal.SIGTERM)
    assert await process.ended(within=15) == 0
    deaf.close()


async def test_a_second_signal_ends_at_once(serve_process: ServeProcess) -> None:
    process = await serve_process(HUBBUB_DRAIN_WINDOW="600")
    peers = [await Peer.connect(f"{process.ws_url}/ws/rooms/r/user-{i}") for i in range(100)]
    process.signal(signal.SIGTERM)
    async with (
        httpx.AsyncClient(base_url=process.url, trust_env=False) as client,
        asyncio.timeout(20),
    ):
        while (await client.get("/readyz")).status_code == 200:
            pass
    process.signal(signal.SIGTERM)
    assert await process.ended() == 0
    for peer in peers:
        _, code, _ = await peer.ending()
        assert code in (4200, 1012)


async def test_stopping_sends_clients_away_one_by_one(serve: Serve) -> None:
    server = await serve()
    peers = [await server.user(f"user-{number}") for number in range(30)]
    server.begin_to_stop()
    endings = await asyncio.gather(*(peer.ending() for peer in peers))
    assert {code for _, code, _ in endings} == {4200}
    waits = [frames[-1]["reconnect_after"] for frames, _, _ in endings]
    assert len(set(waits)) == len(waits)  # each has a moment of its own
    assert 0 <= min(waits) < max(waits) <= 2
    assert await server.ended() == 0


async def test_while_it_stops_nobody_is_let_in_and_readiness_says_so(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("application.drain.RETURNS_PER_SECOND", 1)
    server = await serve()
    peers = [await server.user(f"user-{number}") for number in range(20)]
    assert (await server.get("/readyz")).status_code == 200
    server.begin_to_stop()
    await until(lambda: server.sessions() < len(peers))
    assert (await server.get("/readyz")).status_code == 503
    assert (await server.get("/healthz")).status_code == 200
    with pytest.raises(InvalidStatus) as refused:
        await server.connect("/v1/ws?user=late")
    assert refused.value.response.status_code == 503
    assert int(refused.value.response.headers["Retry-After"]) >= 1
    assert server.sessions() > 0  # it is still going on
    server.begin_to_stop()  # and is not waited for a second time
    assert await server.ended() == 0


async def test_clients_are_sent_away_within_the_window(serve: Serve) -> None:
    server = await serve(drain_window=0)
    ann = await server.user("ann")
    bob = await server.user("bob")
    server.begin_to_stop()
    for peer in (ann, bob):
        frames, code, _ = await peer.ending()
        assert (code, frames[-1]["reconnect_after"]) == (4200, 0)
    assert await server.ended() == 0


async def test_a_bug_in_the_background_ends_the_process_with_an_error(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Bug(Exception):
        pass

    def broken(*_: object) -> None:
        raise Bug("this was planted")

    monkeypatch.setattr("adapters.memory.presence.MemoryPresence.sweep", broken)
    server = await serve()
    assert await server.ended() == 1
    assert "this was planted" in "".join(server.log.errors)
    server.log.errors.clear()


# TLS


async def test_the_server_speaks_tls(serve: Serve, tmp_path: Path) -> None:
    cert_file, key_file = certificate(tmp_path)
    trust = ssl.create_default_context(cafile=cert_file)
    server = await serve(ssl_certfile=cert_file, ssl_keyfile=key_file)

    async def member(name: str) -> Peer:
        peer = await server.connect(f"/v1/ws?user={name}", ssl=trust)
        await peer.expect("connected")
        await peer.expect("joined")
        await peer.ask("join", room="r")
        return peer

    ann, bob = await member("ann"), await member("bob")
    await ann.expect("join", user="bob")
    for text in ("x" * 60_000, "y"):
        for _ in range(20):
            await ann.ask("publish", room="r", data=text, echo=False)
            await bob.expect("message", data=text)
    own = {"Origin": f"https://127.0.0.1:{server.port}"}
    page = await server.connect("/ws", ssl=trust, additional_headers=own)
    await page.send("from a page")
    assert (await page.receive())["echo"] == "from a page"
    async with httpx.AsyncClient(verify=trust, trust_env=False) as client:
        assert (await client.get(f"{server.url}/healthz")).status_code == 200


@pytest.mark.lane_only("a send that nobody reads ends when the server ends it")
async def test_a_tls_client_that_never_reads_is_cut_too(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.transport.lane.CLOSE_DEADLINE", 0.2)
    cert_file, key_file = certificate(tmp_path)
    trust = ssl.create_default_context(cafile=cert_file)
    server = await serve(
        ssl_certfile=cert_file, ssl_keyfile=key_file, limits={"messages_per_second": 0}
    )
    server.narrow()
    deaf = await server.connect("/ws/rooms/r/deaf", ssl=trust)
    deaf.connection.transport.pause_reading()
    talker = await server.connect("/v1/ws?user=talker", ssl=trust)
    await talker.expect("connected")
    await talker.expect("joined")
    async with asyncio.timeout(20):
        while not server.metric("disconnects_total", "4102"):
            await talker.ask("publish", room="r", data="x" * 60_000, echo=False)
    await until(lambda: server.connections() == 1)
    deaf.vanish()


# Before the upgrade


async def answer(server: RunningServer, request: str) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(request.replace("\n", "\r\n").encode("latin-1"))
        async with asyncio.timeout(20):
            return (await reader.read()).decode("latin-1")
    finally:
        writer.close()
        await writer.wait_closed()


UPGRADE = "Host: h\nUpgrade: websocket\nConnection: Upgrade\nSec-WebSocket-Version: 13\n"
KEY = "Sec-WebSocket-Key: c2l4dGVlbiBieXRlcyBvaw==\n"


@pytest.mark.parametrize(
    "request_text",
    [
        f"GET /ws HTTP/1.1\n{UPGRADE}\n",
        f"GET /ws HTTP/1.1\n{UPGRADE}Sec-WebSocket-Key: short\n\n",
        f"GET /ws HTTP/1.1\n{UPGRADE}{KEY}{KEY}\n",
        f"POST /ws HTTP/1.1\n{UPGRADE}{KEY}\n",
        f"GET /ws HTTP/1.1\n{UPGRADE.replace('13', '8')}{KEY}\n",
        "nonsense\n\n",
    ],
    ids=["no key", "short key", "two keys", "POST", "version 8", "nonsense"],
)
async def test_what_is_no_handshake_is_refused(serve: Serve, request_text: str) -> None:
    server = await serve()
    assert (await answer(server, request_text)).startswith("HTTP/1.1 4")
    assert server.metric("sessions_opened_total") == 0


async def test_a_path_that_is_no_door_is_closed_with_a_reason(serve: Serve) -> None:
    server = await serve()
    for path in ("/", "/nowhere", "/ws/", "/ws/rooms/r", "/ws/rooms/r/ann/x", "/ws/a%2Fb", "/v1"):
        peer = await server.connect(path)
        assert await peer.closed() == (4000, "bad request: no such door"), path
    assert server.metric("sessions_opened_total") == 0
