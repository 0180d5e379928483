"""Publishing over HTTP: against a real server, and against answers that a real one seldom gives."""

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from hubbub_client import OutcomeUnknown, Published, Refused
from hubbub_client.publisher import AsyncPublisher, Publisher

from tests.running_server import RunningServer, Serve
from tests.tokens import JWT, token

API_KEY = "an-api-key-of-more-than-thirty-two-bytes"
PLACED = {"room": "r", "log": "log.0", "seq": 7, "message_id": "m7", "duplicate": False}
BUSY = {"error": {"code": "unavailable", "message": "", "retry": True, "retry_after": 0.01}}
UNSURE = {"error": {"code": "unknown", "message": "", "retry": True, "retry_after": 0.01}}
NO = {"error": {"code": "not_granted", "message": "no grant", "retry": False}}


@pytest.fixture
async def server(serve: Serve) -> RunningServer:
    return await serve()


# For real


async def test_from_sync_code(serve: Serve) -> None:
    server = await serve(api_key=API_KEY)
    bob, _ = await server.member("bob", "chat:tea")

    def work() -> Published:
        client = httpx.Client(trust_env=False)
        with Publisher(server.url, API_KEY, client=client) as publisher:
            return publisher.publish("chat:tea", {"text": "häl\nlo"}, sender="ann")

    published = await asyncio.to_thread(work)
    message = await bob.expect("message", data={"text": "häl\nlo"})
    assert message["from"] == "ann"
    assert (published.seq, published.message_id) == (message["seq"], message["id"])


async def test_from_async_code(server: RunningServer) -> None:
    bob, _ = await server.member("bob", "r")
    client = httpx.AsyncClient(trust_env=False)
    async with AsyncPublisher(server.url + "/", client=client) as publisher:
        first = await publisher.publish("r", 1, key="task-1")
        again = await publisher.publish("r", 1, key="task-1")
        assert (again, again.duplicate) == (first, True)
        assert await publisher.publish("r", "typing", ephemeral=True) is True
        with pytest.raises(Refused) as refused:
            await publisher.publish("r", 2, key="task-1")
        assert refused.value.code == "key_conflict"
        with pytest.raises(Refused, match="bad_name"):
            await publisher.publish("no such room", 1)
    await bob.expect("message", seq=1, data=1)
    await bob.expect("message", data="typing", ephemeral=True)
    assert client.is_closed


async def test_with_a_token(serve: Serve) -> None:
    server = await serve(**JWT)
    credential = token("ann", rooms={"mine": ["publish"]})
    client = httpx.AsyncClient(trust_env=False)
    async with AsyncPublisher(server.url, credential, client=client) as publisher:
        assert (await publisher.publish("mine", 1)).seq == 1
        with pytest.raises(Refused, match="not_granted"):
            await publisher.publish("yours", 1)


# What goes wrong

Answer = httpx.Response | httpx.TransportError
Handler = Callable[[httpx.Request], httpx.Response]


class Line:
    """Gives these answers, one after the other, and keeps the bodies of the requests."""

    def __init__(self, *answers: Answer) -> None:
        self._answers: Iterator[Answer] = iter(answers)
        self.bodies: list[dict[str, Any]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.bodies.append(json.loads(request.content))
        answer = next(self._answers)
        if isinstance(answer, httpx.TransportError):
            raise answer
        return answer

    @property
    def keys(self) -> set[str]:
        return {body["key"] for body in self.bodies}


def publisher(line: Line, timeout: float = 10.0) -> Publisher:
    client = httpx.Client(transport=httpx.MockTransport(line))
    return Publisher("http://rooms.example.com", "a key", client=client, timeout=timeout)


def answer(status: int, body: object) -> httpx.Response:
    return httpx.Response(status, json=body)


@pytest.mark.parametrize(
    "failure",
    [
        answer(503, BUSY),
        answer(504, UNSURE),
        httpx.Response(502, text="<html>bad gateway</html>"),
        httpx.ReadError("reset"),
        httpx.ConnectError("refused"),
        httpx.RemoteProtocolError("closed"),
    ],
)
def test_what_may_succeed_is_tried_again_with_the_same_key(failure: Answer) -> None:
    line = Line(failure, failure, answer(200, PLACED))
    published = publisher(line).publish("r", 1)
    assert (published.log, published.seq, published.message_id) == ("log.0", 7, "m7")
    assert (len(line.bodies), len(line.keys)) == (3, 1)


@pytest.mark.parametrize(
    ("response", "code"),
    [(answer(403, NO), "not_granted"), (httpx.Response(404, text="nobody here"), "http_404")],
)
def test_what_is_refused_is_not_tried_again(response: httpx.Response, code: str) -> None:
    line = Line(response)
    with pytest.raises(Refused) as refused:
        publisher(line).publish("r", 1)
    assert (refused.value.code, refused.value.retry) == (code, False)
    assert len(line.bodies) == 1


@pytest.mark.parametrize("failure", [answer(503, BUSY), httpx.ConnectError("refused")])
def test_what_was_not_done_in_time_says_so(failure: Answer) -> None:
    line = Line(*[failure] * 1000)
    with pytest.raises(Refused, match="unavailable") as refused:
        publisher(line, timeout=0.3).publish("r", 1)
    assert refused.value.retry


def test_what_may_have_been_done_says_so_whatever_came_after() -> None:
    line = Line(httpx.ReadError("reset"), *[httpx.ConnectError("refused")] * 1000)
    with pytest.raises(OutcomeUnknown, match="refused"):
        publisher(line, timeout=0.5).publish("r", 1)
    assert len(line.keys) == 1


def test_it_ends_before_the_server_forgets_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr("hubbub_client.errand._now", lambda: now)
    monkeypatch.setattr("hubbub_client.publisher.time.sleep", sleep)
    away = answer(503, {"error": {"code": "unavailable", "retry": True, "retry_after": 40}})
    line = Line(away, httpx.ReadError("reset"), *[away] * 100)
    with pytest.raises(OutcomeUnknown, match="unavailable"):
        publisher(line, timeout=6000).publish("r", 1)
    assert 40 + 240 < now <= 40 + 290, "counted from the try of which nobody knows"


def test_an_ephemeral_message_that_may_be_there_is_not_repeated() -> None:
    line = Line(httpx.ReadError("reset"))
    with pytest.raises(OutcomeUnknown):
        publisher(line).publish("r", 1, ephemeral=True)
    assert [body.get("key") for body in line.bodies] == [None]


@pytest.mark.parametrize("data", [float("nan"), object()])
def test_what_is_no_json_is_not_sent(data: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        publisher(Line()).publish("r", data)


def test_the_credential_goes_into_the_header_only() -> None:
    def answering(request: httpx.Request) -> httpx.Response:
        assert request.headers["Authorization"] == "Bearer a key"
        assert request.url == "http://rooms.example.com/v1/rooms/chat%3Atea%2F/messages"
        return answer(200, PLACED)

    client = httpx.Client(transport=httpx.MockTransport(answering))
    url = "http://rooms.example.com"
    assert Publisher(url, "a key", client=client).publish("chat:tea/", 1).seq == 7


async def test_a_cancelled_publish_ends_at_once() -> None:
    begun = asyncio.Event()

    async def never(request: httpx.Request) -> httpx.Response:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    client = httpx.AsyncClient(transport=httpx.MockTransport(never))
    async with AsyncPublisher("http://rooms.example.com", client=client) as publisher:
        publishing = asyncio.create_task(publisher.publish("r", 1))
        await begun.wait()
        publishing.cancel()
        await asyncio.wait({publishing})
        assert publishing.cancelled()
