"""What whoever runs the server asks it: health, readiness, metrics, and what it can do."""

from prometheus_client.parser import text_string_to_metric_families

from tests.peer import Peer
from tests.running_server import RunningServer, Serve
from tests.tokens import JWT


async def test_health_and_readiness(serve: Serve) -> None:
    server = await serve()
    health = await server.get("/healthz")
    assert (health.status_code, health.json()) == (200, {"status": "ok"})
    readiness = await server.get("/readyz")
    name = server.container.node_name()
    assert (readiness.status_code, readiness.json()) == (200, {"status": "ready", "node": name})
    assert f'hubbub_node_info{{node="{name}"}} 1.0' in (await server.get("/metrics")).text


async def test_a_failed_node_wants_to_be_restarted(serve: Serve) -> None:
    server = await serve()
    node = server.container.node()
    node.running = False
    assert (await server.get("/readyz")).status_code == 503
    assert (await server.get("/healthz")).status_code == 200
    node.running = True


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
    assert after["hubbub_messages_published_total", ""] == 2
    assert after["hubbub_deliveries_total", ""] >= 2 * 3
    assert after["hubbub_recoveries_total", "none"] == 6


async def test_metrics_never_name_a_room_or_a_user(serve: Serve) -> None:
    server = await serve()
    peer, _ = await server.member("canary-user", "canary-room")
    await peer.ask("publish", room="canary-room", data="canary-data", key="canary-key")
    assert "canary" not in (await server.get("/metrics")).text


async def test_the_api_describes_itself(serve: Serve) -> None:
    server = await serve()
    document = (await server.get("/openapi.json")).json()
    assert document["info"]["title"] == "hubbub"
    assert {"/healthz", "/readyz", "/metrics"} <= set(document["paths"])
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
