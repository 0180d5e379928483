"""The origin policy over HTTP: what pages of other origins may ask and read."""

import pytest

from tests.running_server import Serve
from tests.tokens import JWT

ALLOWED = "https://example.com"
PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization, content-type",
}


async def test_an_allowed_page_may_read_the_answer(serve: Serve) -> None:
    server = await serve(origins=[ALLOWED])
    for path in ("/healthz", "/nowhere"):
        response = await server.get(path, headers={"Origin": ALLOWED})
        assert response.status_code in (200, 404)
        assert response.headers["access-control-allow-origin"] == ALLOWED
        assert "origin" in response.headers["vary"].lower()
        assert "access-control-allow-credentials" not in response.headers


async def test_without_an_origin_there_is_nothing_to_allow(serve: Serve) -> None:
    server = await serve(origins=[ALLOWED])
    response = await server.get("/healthz")
    assert response.status_code == 200
    assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "https://example.com.evil.example",
        "https://evil-example.com",
        "http://example.com",
        "null",
        "",
    ],
)
async def test_another_page_is_refused(serve: Serve, origin: str) -> None:
    server = await serve(origins=[ALLOWED])
    for headers in ({"Origin": origin}, {"Origin": origin, **PREFLIGHT}):
        for method in ("GET", "OPTIONS", "POST"):
            response = await server.request(method, "/healthz", headers=headers)
            assert response.status_code == 403
            assert "access-control-allow-origin" not in response.headers
    assert "HUBBUB_ORIGINS" in server.log.text


async def test_a_preflight_is_answered(serve: Serve) -> None:
    server = await serve(origins=[ALLOWED])
    headers = {"Origin": ALLOWED, **PREFLIGHT}
    for path in ("/healthz", "/v1/rooms/r/messages"):
        response = await server.request("OPTIONS", path, headers=headers)
        assert (response.status_code, response.content) == (204, b"")
        assert response.headers["access-control-allow-origin"] == ALLOWED
        assert "POST" in response.headers["access-control-allow-methods"]
        allowed = response.headers["access-control-allow-headers"].lower()
        for name in ("authorization", "content-type", "idempotency-key", "last-event-id"):
            assert name in allowed
        assert int(response.headers["access-control-max-age"]) > 0
        assert "content-length" not in response.headers  # RFC 9110, 8.6: not with a 204


async def test_a_star_allows_every_page_but_null(serve: Serve) -> None:
    server = await serve(origins=["*"])
    response = await server.get("/healthz", headers={"Origin": "https://anything.example"})
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] in ("*", "https://anything.example")
    assert (await server.get("/healthz", headers={"Origin": "null"})).status_code == 403


async def test_the_own_page_and_pages_of_this_machine(serve: Serve) -> None:
    opened = await serve()
    closed = await serve(**JWT)
    for server, origin, status in (
        (opened, opened.url, 200),
        (opened, "http://localhost:3000", 200),
        (closed, closed.url, 200),
        (closed, "http://localhost:3000", 403),
    ):
        response = await server.get("/healthz", headers={"Origin": origin})
        assert response.status_code == status, origin


async def test_two_origins_are_none(serve: Serve) -> None:
    server = await serve(origins=[ALLOWED])
    headers = [("Origin", ALLOWED), ("Origin", "https://evil.example")]
    assert (await server.get("/healthz", headers=headers)).status_code == 403
    assert (await server.get("/healthz", headers=headers[::-1])).status_code == 403
