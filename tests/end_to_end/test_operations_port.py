"""A port of its own for operations: what is there, what is not, and until when."""

import asyncio
import re
import signal

import httpx
import pytest

from tests.peer import DEADLINE, Peer, until
from tests.running_server import RunningServer, Serve
from tests.server_process import ServeProcess, ServerProcess
from tests.tokens import JWT

OWN = {"operations": {"port": 0}}
NOT_FOR_CLIENTS = ("/metrics", "/openapi.json", "/asyncapi.json")
PROBES = ("/healthz", "/readyz")


def operations(server: RunningServer) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=server.operations_url, trust_env=False)


async def test_what_is_not_for_clients_is_not_where_they_come(serve: Serve) -> None:
    for settings in (OWN, {**OWN, **JWT}):
        server = await serve(**settings)
        async with operations(server) as there:
            for path in NOT_FOR_CLIENTS:
                assert (await there.get(path)).status_code == 200, path
                assert (await server.get(path)).status_code == 404, path
            for path in PROBES:
                assert (await there.get(path)).status_code == 200, path
                assert (await server.get(path)).status_code == 200, path
            assert (await server.get("/docs")).status_code == 404


async def test_clients_have_no_business_there(serve: Serve) -> None:
    server = await serve(**OWN)
    async with operations(server) as there:
        for path in ("/", "/v1/rooms", "/v1/events?room=tea", "/docs"):
            answer = await there.get(path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    with pytest.raises(Exception, match=r"404|rejected"):
        await Peer.connect(server.operations_url.replace("http", "ws") + "/v1/ws")


async def test_a_page_cannot_read_it_by_a_name_made_to_lead_here(serve: Serve) -> None:
    server = await serve(**OWN)
    async with operations(server) as there:
        assert (await there.get("/metrics", headers={"Host": "evil.example"})).status_code == 403
        page = {"Origin": "https://evil.example"}
        assert (await there.get("/metrics", headers=page)).status_code == 403


async def test_the_document_of_the_api_is_that_of_the_port_of_clients(serve: Serve) -> None:
    server = await serve(**OWN)
    async with operations(server) as there:
        paths = (await there.get("/openapi.json")).json()["paths"]
    assert "/v1/rooms/{room}/messages" in paths
    assert {"/healthz", "/readyz"} <= set(paths)
    assert "/metrics" not in paths


# As a process


async def where(process: ServerProcess) -> str:
    """The address of the port for operations, as the log tells it."""
    told = re.compile(r"operations at (http://127\.0\.0\.1:\d+)")
    await until(lambda: bool(told.search(process.stderr)))
    return str(told.findall(process.stderr)[0])


async def test_readiness_can_be_seen_until_the_end(serve_process: ServeProcess) -> None:
    process = await serve_process(HUBBUB_OPERATIONS__PORT="0", HUBBUB_DRAIN_WINDOW="1")
    url = await where(process)
    peer = await Peer.connect(f"{process.ws_url}/v1/ws?user=ann")
    async with httpx.AsyncClient(base_url=url, trust_env=False) as there:
        assert (await there.get("/readyz")).json()["status"] == "ready"
        process.signal(signal.SIGTERM)
        seen = set[str]()
        async with asyncio.timeout(DEADLINE):
            while True:
                try:
                    answer = await there.get("/readyz")
                except httpx.TransportError:
                    break  # gone, with the process
                if answer.status_code == 503:
                    seen.add(answer.json()["why"])
        assert "draining" in seen
    _, code, _ = await peer.ending()
    assert code == 4200
    assert await process.ended() == 0
    assert "Traceback" not in process.stderr


async def test_a_scrape_that_hangs_does_not_hold_up_the_end(serve_process: ServeProcess) -> None:
    process = await serve_process(HUBBUB_OPERATIONS__PORT="0")
    port = int((await where(process)).rpartition(":")[2])
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n")  # and no more
    await writer.drain()
    process.signal(signal.SIGTERM)
    assert await process.ended() == 0
    assert "Traceback" not in process.stderr
    writer.close()


async def test_any_worker_answers_for_all(redis_url: str, serve_process: ServeProcess) -> None:
    process = await serve_process(
        *("--workers", "2"),
        HUBBUB_BACKEND="redis",
        HUBBUB_REDIS_URL=redis_url,
        HUBBUB_OPERATIONS__PORT="0",
    )
    async with (
        httpx.AsyncClient(
            base_url=await where(process), trust_env=False, timeout=DEADLINE
        ) as there,
        asyncio.timeout(DEADLINE),  # the workers may take long to start
    ):
        nodes = set[str]()
        while len(nodes) < 2:
            text = (await there.get("/metrics")).text
            nodes = set(re.findall(r'^hubbub_sessions\{node="([^"]+)"\}', text, re.MULTILINE))
        counts = re.findall(r"^hubbub_publish_seconds_count\{node=", text, re.MULTILINE)
        assert len(counts) == 2
    async with httpx.AsyncClient(base_url=process.url, trust_env=False) as here:
        assert (await here.get("/metrics")).status_code == 404
    process.signal(signal.SIGTERM)
    assert await process.ended() == 0
    assert "Traceback" not in process.stderr
