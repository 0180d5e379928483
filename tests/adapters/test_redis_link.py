"""On real Redis: what one connection promises."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from adapters.redis.addresses import Address, parse
from adapters.redis.link import Link, LinkLost, ReplyError, pack, pack_part
from tests.peer import DEADLINE
from tests.redis_proxy import redis_proxy
from tests.redis_server import RedisServer, StartRedis

pytestmark = pytest.mark.redis


class Ending:
    """What `lost` was called with, and how often."""

    def __init__(self) -> None:
        self.all: list[Exception] = []
        self._told = asyncio.Event()

    def __call__(self, why: Exception) -> None:
        self.all.append(why)
        self._told.set()

    async def told(self) -> Exception:
        async with asyncio.timeout(DEADLINE):
            await self._told.wait()
        (why,) = self.all
        return why


class Heard:
    """What came to a callback, one after the other."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Any] = asyncio.Queue()

    def __call__(self, what: Any) -> None:
        self._queue.put_nowait(what)

    async def next(self) -> Any:
        async with asyncio.timeout(DEADLINE):
            return await self._queue.get()


def test_the_parts_of_a_command_make_the_whole() -> None:
    whole = pack(("SET", "caf\u00e9", b"\r\n", 12, ""))
    assert whole == b"*5\r\n" + pack_part("SET", "caf\u00e9") + pack_part(b"\r\n", 12, "")


@asynccontextmanager
async def linked(url: str, **options: Any) -> AsyncIterator[Link]:
    link = await Link.open(parse(url).server, **options)
    try:
        yield link
    finally:
        link.close()


async def test_replies_come_in_order(redis_url: str) -> None:
    async with linked(redis_url) as link:
        calls = [link.call("INCR", "n") for _ in range(1000)]
        assert await asyncio.gather(*calls) == list(range(1, 1001))
        assert link.in_flight == 0


async def test_words_and_replies_of_every_kind(redis_url: str) -> None:
    async with linked(redis_url) as link:
        every_byte = bytes(range(256))
        await link.call("HSET", "h", every_byte, 7, "ä", 0.5)
        assert await link.call(b"HGETALL", "h") == {every_byte: b"7", "ä".encode(): b"0.5"}
        assert await link.call("GET", "nothing") is None
        assert await link.call("DEBUG", "PROTOCOL", "false") is False  # not the lack of a reply
        assert await link.call("PING", b"x" * 3_000_000) == b"x" * 3_000_000


async def test_commands_of_one_turn_leave_together(redis_server: RedisServer) -> None:
    async with redis_proxy(redis_server.port) as proxy, linked(proxy.url) as link:
        before = proxy.chunks
        await asyncio.gather(*(link.call("PING") for _ in range(100)))
        assert proxy.chunks - before == 1


async def test_a_refusal_is_an_error_with_its_code(redis_url: str) -> None:
    async with linked(redis_url) as link:
        await link.call("SET", "text", "x")
        with pytest.raises(ReplyError) as refused:
            await link.call("INCR", "text")
        assert refused.value.code == "ERR"
        with pytest.raises(ReplyError) as refused:
            await link.call("HGETALL", "text")
        assert refused.value.code == "WRONGTYPE"
        assert await link.call("PING") == b"PONG"


async def test_a_word_that_is_none_is_the_callers_mistake(redis_url: str) -> None:
    async with linked(redis_url) as link:
        with pytest.raises(TypeError):
            await link.call("SET", "k", None)  # type: ignore[arg-type]
        assert await link.call("PING") == b"PONG"


async def test_a_cancelled_call_takes_nobodys_reply(redis_url: str) -> None:
    async with linked(redis_url) as link:
        given_up = asyncio.ensure_future(link.call("ECHO", "one"))
        kept = asyncio.ensure_future(link.call("ECHO", "two"))
        await asyncio.sleep(0)
        given_up.cancel()
        assert await kept == b"two"


async def test_what_redis_says_unasked(redis_url: str) -> None:
    pushed = Heard()
    async with linked(redis_url, pushed=pushed) as link, linked(redis_url) as publisher:
        link.send_unanswered(("SUBSCRIBE", "feed"))
        assert await pushed.next() == [b"subscribe", b"feed", 1]
        assert await link.call("PING") == b"PONG"
        assert await publisher.call("PUBLISH", "feed", b"\x00hi") == 1
        assert await pushed.next() == [b"message", b"feed", b"\x00hi"]


async def test_an_error_nobody_waits_for(redis_url: str) -> None:
    pushed = Heard()
    async with linked(redis_url, pushed=pushed) as link:
        link.send_unanswered(("SUBSCRIBE",))
        refused = await pushed.next()
        assert isinstance(refused, ReplyError)
        assert "wrong number of arguments" in refused.text


async def test_a_reply_to_nothing_ends_it(redis_url: str) -> None:
    lost = Ending()
    async with linked(redis_url, pushed=Heard(), lost=lost) as link:
        link.send_unanswered(("PING",))
        assert isinstance(await lost.told(), LinkLost)


async def test_everything_waiting_hears_of_the_end(start_redis: StartRedis) -> None:
    server, lost, order = start_redis(), Ending(), list[tuple[int, type]]()

    def told(number: int, got: Any) -> None:
        order.append((number, type(got)))

    async with linked(server.url, lost=lost) as link:
        server.pause()
        for number in range(3):
            link.send(("PING",), partial(told, number))
        server.kill()
        assert isinstance(await lost.told(), LinkLost)
        assert order == [(0, LinkLost), (1, LinkLost), (2, LinkLost)]
        assert not link.is_open
        with pytest.raises(LinkLost):
            await link.call("PING")
    assert len(lost.all) == 1


async def test_close_is_an_end_too(redis_url: str) -> None:
    lost = Ending()
    link = await Link.open(parse(redis_url).server, lost=lost)
    waiting = asyncio.ensure_future(link.call("BLPOP", "nothing", 0))
    await asyncio.sleep(0)
    link.close()
    link.close()
    with pytest.raises(LinkLost):
        await waiting
    assert isinstance(await lost.told(), LinkLost)


async def test_a_callbacks_bug_ends_it_and_is_told(redis_url: str) -> None:
    lost, heard, bug = Ending(), Heard(), RuntimeError("a bug")

    def fail(_: Any) -> None:
        raise bug

    async with linked(redis_url, lost=lost) as link:
        link.send(("PING",), fail)
        link.send(("PING",), heard)
        assert await lost.told() is bug
        assert isinstance(await heard.next(), LinkLost)


async def test_a_bug_while_hearing_of_the_end_is_told_too(start_redis: StartRedis) -> None:
    server, lost, heard, bug = start_redis(), Ending(), Heard(), RuntimeError("a bug")

    def fail(_: Any) -> None:
        raise bug

    async with linked(server.url, lost=lost) as link:
        server.pause()
        link.send(("PING",), fail)
        link.send(("PING",), heard)
        server.kill()
        assert await lost.told() is bug
        assert isinstance(await heard.next(), LinkLost)


async def test_a_database(redis_url: str) -> None:
    async with linked(redis_url + "/3") as link, linked(redis_url) as other:
        await link.call("SET", "k", "v")
        assert await other.call("GET", "k") is None
        assert b"db=3" in await link.call("CLIENT", "INFO")


async def test_it_says_who_it_is(redis_url: str) -> None:
    async with linked(redis_url) as link:
        shown = await link.call("CLIENT", "INFO")
        assert f"id={link.client_id} ".encode() in shown
        assert b"name=hubbub " in shown
        assert link.role == "master"


async def test_a_unix_socket(redis_server: RedisServer) -> None:
    async with linked(f"unix://{redis_server.socket}") as link:
        assert await link.call("PING") == b"PONG"


async def test_passwords_and_users(start_redis: StartRedis) -> None:
    server = start_redis("requirepass s3cret", "user ann on >p@ss ~* &* +@all")
    for user in (":s3cret", "ann:p%40ss", "default:s3cret"):
        async with linked(f"redis://{user}@{server.address}") as link:
            assert await link.call("PING") == b"PONG"
    with pytest.raises(ReplyError) as refused:
        await Link.open(parse(server.url).server)
    assert refused.value.code == "NOAUTH"
    with pytest.raises(ReplyError) as refused:
        await Link.open(parse(f"redis://ann:gue55ed@{server.address}").server)
    assert refused.value.code == "WRONGPASS"
    assert "gue55ed" not in refused.value.text


async def test_tls(redis_server: RedisServer, cert: tuple[str, str]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*cert)
    async with redis_proxy(redis_server.port, context) as proxy:
        async with linked(f"{proxy.url}?ssl_ca_certs={cert[0]}") as link:
            assert await link.call("PING", b"x" * 500_000) == b"x" * 500_000
        with pytest.raises(LinkLost, match="CERTIFICATE_VERIFY_FAILED"):
            await Link.open(parse(proxy.url).server)
        async with linked(f"{proxy.url}?ssl_cert_reqs=none") as link:
            assert await link.call("PING") == b"PONG"


async def test_nobody_there(start_redis: StartRedis, tmp_path: Path) -> None:
    server = start_redis()
    server.kill()
    for address in (parse(server.url).server, Address(path=str(tmp_path / "none"))):
        with pytest.raises(LinkLost):
            await Link.open(address)


async def test_somebody_there_who_does_not_answer(start_redis: StartRedis) -> None:
    server = start_redis()
    server.pause()
    with pytest.raises(LinkLost, match="no answer in time"):
        await Link.open(parse(server.url).server, deadline=0.1)


async def test_somebody_there_who_is_no_redis() -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(LinkLost, match="not Redis"):
            await Link.open(Address("127.0.0.1", port))
