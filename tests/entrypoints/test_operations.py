"""What whoever runs the server asks it: health, readiness, metrics, and what it can do."""

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.exceptions import InvalidHandshake

from entrypoints.asgi import assemble, build_container
from entrypoints.settings import Settings
from tests.peer import Peer, until
from tests.running_server import RunningServer, Serve
from tests.tokens import JWT, token
from tests.wire import Wire


async def test_health_and_readiness(serve: Serve) -> None:
    server = await serve()
    health = await server.get("/healthz")
    assert (health.status_code, health.json()) == (200, {"status": "ok"})
    readiness = await server.get("/readyz")
    name = server.container.node_name()
    assert (readiness.status_code, readiness.json()) == (200, {"status": "ready", "node": name})
    assert f'hubbub_node_info{{node="{name}"}} 1.0' in (await server.get("/metrics")).text


async def test_who_is_not_well_off_here_is_told_why(serve: Serve) -> None:
    server = await serve()
    node = server.container.node()
    node.running = False
    readiness = await server.get("/readyz")
    assert (readiness.status_code, readiness.json()["why"]) == (503, "starting")
    assert (await server.get("/healthz")).status_code == 200
    node.running = True
    node.draining = True
    assert (await server.get("/readyz")).json()["why"] == "draining"
    node.draining = False


async def test_a_failed_node_wants_to_be_restarted() -> None:
    container = build_container(Settings())
    transport = httpx.ASGITransport(assemble(container))  # no server, which would end at once
    container.node().failed = True
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        assert (await client.get("/healthz")).status_code == 500
        assert (await client.get("/readyz")).json()["why"] == "failed"


async def scrape(server: RunningServer) -> dict[tuple[str, str], float]:
    response = await server.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    return {
        (sample.name, ",".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


async def test_metrics_count_what_happens(serve: Serve) -> None:
    server = await serve()
    before = await scrape(server)
    assert before["hubbub_sessions", ""] == 0
    assert before["hubbub_rooms", ""] == 0
    assert before["process_resident_memory_bytes", ""] > 0

    members: list[Peer] = [(await server.member(name, "r"))[0] for name in ("ann", "bob", "cleo")]
    for peer in members[:2]:
        await peer.ask("publish", room="r", data=1)
    await members[2].close()
    await server.lost(2)
    after = await scrape(server)
    assert after["hubbub_sessions", ""] == 2
    assert after["hubbub_rooms", ""] == 3  # r, @ann and @bob
    assert after["hubbub_history_rooms", ""] == 4  # @cleo's is kept for her return
    assert after["hubbub_history_bytes", ""] > before["hubbub_history_bytes", ""] == 0
    assert after["hubbub_sessions_opened_total", ""] == 3
    assert after["hubbub_disconnects_total", "1000"] == 1
    assert after["hubbub_users", ""] == 2
    assert after["hubbub_messages_published_total", "numbered"] == 2
    assert after["hubbub_messages_published_total", "ephemeral"] == 0
    assert after["hubbub_deliveries_total", "message"] == 2 * 3
    assert after["hubbub_deliveries_total", "notice"] > 0
    assert after["hubbub_commands_total", "join"] == 3
    assert after["hubbub_recoveries_total", "none"] == 6
    assert after["hubbub_outbox_bytes", ""] == 0
    assert after["hubbub_publish_seconds_count", ""] >= 1
    assert after["hubbub_publish_seconds_sum", ""] > 0


async def test_how_long_it_takes_is_measured(serve: Serve) -> None:
    server = await serve()
    peer, _ = await server.member("ann", "r")
    await peer.ask("publish", room="r", data=1)
    await until(lambda: server.metric("fan_out_seconds_count") >= 1)
    await until(lambda: server.metric("event_loop_lag_seconds_count") >= 2)
    assert "hubbub_broker_lag_seconds" not in (await server.get("/metrics")).text


async def test_who_is_not_let_in_is_counted_by_cause(serve: Serve) -> None:
    server = await serve(limits={"connections": 1}, **JWT)
    for path in ("/v1/ws?token=a.b.c", "/ws/no%20name", "/v2/ws"):
        peer = await server.connect(path)
        await peer.ending()
    await until(lambda: server.container.admission().known == 0)
    inside = await server.connect(f"/v1/ws?token={token('ann')}")
    await inside.expect("connected")
    for options in ({"origin": "https://evil.example"}, {}):
        with pytest.raises(InvalidHandshake):
            await server.connect(f"/v1/ws?token={token('ann')}", **options)
    found = await scrape(server)
    for cause in ("token_invalid", "bad_name", "no_such_door", "origin", "connections"):
        assert found["hubbub_refused_connections_total", cause] == 1, cause


async def test_who_is_too_fast_is_counted_by_limit(serve: Serve) -> None:
    limits = {"messages_per_second": 0.01, "messages_burst": 1}
    limits |= {"commands_per_second": 0.01, "commands_burst": 2}
    server = await serve(limits=limits, rooms=[{"match": "slow", "rate": 0.01}])
    ann, _ = await server.member("ann", "r")
    for kind in ("publish", "publish", "members", "members"):
        await ann.ask(kind, room="r", data=1)
    for _ in range(2):
        await server.request("POST", "/v1/rooms/slow/messages", json={"data": 1})
    assert server.metric("rate_limited_total", "messages") == 1
    assert server.metric("rate_limited_total", "commands") == 1
    assert server.metric("rate_limited_total", "room") == 1


@pytest.mark.lane_only("how much waits for somebody is not seen through ASGI")
async def test_what_waits_for_slow_readers_is_told(serve: Serve) -> None:
    server = await serve(limits={"outbox_bytes": 4 * 65_536, "messages_per_second": 0})
    server.narrow()
    slow = await Wire.upgraded(server.port, "/ws/rooms/r/slow", receive_buffer=4096)
    await until(lambda: server.metric("rooms") == 1)
    ann, _ = await server.member("ann", "r")
    while not server.metric("outboxes_over_half"):
        await ann.ask("publish", room="r", data="x" * 20_000, echo=False)
    assert server.metric("outbox_bytes") > 2 * 65_536
    assert server.metric("disconnects_total", "4102") == 0
    await slow.shut()
    await server.lost(1)


async def test_metrics_never_name_a_room_or_a_user(serve: Serve) -> None:
    server = await serve()
    peer, _ = await server.member("canary-user", "canary-room")
    await peer.ask("publish", room="canary-room", data="canary-data", key="canary-key")
    assert "canary" not in (await server.get("/metrics")).text


async def test_the_api_describes_itself(serve: Serve) -> None:
    server = await serve()
    document = (await server.get("/openapi.json")).json()
    assert document["info"]["title"] == "hubbub"
    assert {"/healthz", "/readyz", "/metrics", "/asyncapi.json"} <= set(document["paths"])
    assert (await server.get("/docs")).status_code == 200


async def test_pages_are_for_trying(serve: Serve) -> None:
    opened, closed = await serve(), await serve(**JWT)
    for path in ("/", "/docs"):
        assert (await opened.get(path)).status_code == 200
        assert (await closed.get(path)).status_code == 404
    assert (await closed.get("/openapi.json")).status_code == 200


async def test_operations_need_no_token(serve: Serve) -> None:
    """They tell nothing that is not for everybody, and probes have no tokens."""
    server = await serve(**JWT)
    for path in ("/healthz", "/readyz", "/metrics"):
        assert (await server.get(path)).status_code == 200, path


async def test_what_is_not_there_is_a_404(serve: Serve) -> None:
    server = await serve()
    for path in ("/nowhere", "/v1", "/ws", "/v1/ws"):
        assert (await server.get(path)).status_code == 404, path
    assert (await server.request("POST", "/healthz")).status_code == 405


async def test_the_server_does_not_say_what_it_runs_on(serve: Serve) -> None:
    server = await serve()
    assert "server" not in (await server.get("/healthz")).headers
