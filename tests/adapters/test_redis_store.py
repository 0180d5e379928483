"""On real Redis: order, and outcomes that can be trusted whatever happens on the way."""

import asyncio
import logging
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from adapters.redis import shard, store
from adapters.redis.addresses import BadUrl
from adapters.redis.calls import Request
from adapters.redis.store import Script, Store
from domain.errors import OutcomeUnknown, Unavailable
from tests.peer import DEADLINE, until
from tests.redis_notes import Outcomes
from tests.redis_proxy import redis_proxy
from tests.redis_server import RedisServer, StartRedis
from tests.running import running

pytestmark = pytest.mark.redis

LIST = "{room}:list"
COUNT = "{room}:count"
PUSH = Script("push", "return redis.call('RPUSH', KEYS[1], ARGV[1])")
# As publishing does: told that it may have been done, it looks.
PUSH_ONCE = Script(
    "push_once",
    """
    if ARGV[2] ~= '0' and redis.call('LPOS', KEYS[1], ARGV[1]) then return 'there' end
    return redis.call('RPUSH', KEYS[1], ARGV[1])
    """,
)
# Refuses its first ARGV[2] runs.
LATER = Script(
    "later",
    """
    if redis.call('INCR', KEYS[2]) <= tonumber(ARGV[2]) then
        return redis.error_reply('TRYAGAIN not yet')
    end
    return redis.call('RPUSH', KEYS[1], ARGV[1])
    """,
)


@asynccontextmanager
async def storing(url: str, **limits: int) -> AsyncIterator[Store]:
    """A store that runs, connected."""
    made = Store(url, **limits)
    async with running(made):
        await until(lambda: made.healthy)
        yield made


def push(made: Store, outcomes: Outcomes, number: int, script: Script = PUSH) -> None:
    made.submit(script, [LIST], lambda attempt: (number, attempt), outcomes.done(number))


def _later(number: int, _: int) -> tuple[int, int]:
    return number, 10  # two rounds of five


def pushed(server: RedisServer) -> list[int]:
    return [int(number) for number in server.command("LRANGE", LIST, 0, -1)]


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up sooner."""
    monkeypatch.setattr(store, "DEADLINE", 0.8)
    monkeypatch.setattr(shard, "STALL", 0.3)


# Without faults


async def test_a_script_and_a_command(redis_url: str) -> None:
    async with storing(redis_url) as made:
        assert await made.run_script(PUSH, [LIST], ["x"]) == 1
        assert await made.command(LIST, "LRANGE", LIST, 0, -1) == [b"x"]


async def test_calls_keep_their_order(redis_server: RedisServer, redis_url: str) -> None:
    async with storing(redis_url) as made:
        outcomes = Outcomes()
        for number in range(1000):
            push(made, outcomes, number)
        assert await outcomes.all() == list(range(1, 1001))
    assert pushed(redis_server) == list(range(1000))


async def test_a_script_is_taken_from_its_file() -> None:
    script = Script("publish")
    assert "redis.call" in script.source
    assert len(script.sha) == 40


async def test_calls_wait_for_the_connection(redis_server: RedisServer, redis_url: str) -> None:
    made, outcomes = Store(redis_url), Outcomes()
    for number in range(3):
        push(made, outcomes, number)
    async with running(made):
        assert await outcomes.all() == [1, 2, 3]
    assert pushed(redis_server) == [0, 1, 2]


async def test_a_command_now_or_never(redis_server: RedisServer, redis_url: str) -> None:
    made = Store(redis_url)
    assert not made.send_command(LIST, ("RPUSH", LIST, "never"))
    async with running(made):
        await until(lambda: made.healthy)
        assert made.send_command(LIST, ("RPUSH", LIST, "now"))
        assert await made.command(LIST, "LRANGE", LIST, 0, -1) == [b"now"]
    assert not made.send_command(LIST, ("RPUSH", LIST, "never"))


async def test_who_can_wait_leaves_room_for_others(redis_url: str) -> None:
    made, outcomes = Store(redis_url, max_calls=4), Outcomes()
    for number in range(4):
        patient = outcomes.done(number)
        made.submit(PUSH, [LIST], lambda _: ("x",), patient, patient=True)
    assert [bool(outcomes.of[number]) for number in range(4)] == [False, False, True, True]
    for number in range(4, 7):
        push(made, outcomes, number)
    assert [bool(outcomes.of[number]) for number in range(4, 7)] == [False, False, True]
    async with running(made):
        told = await outcomes.all()
    refused = [number for number, outcome in enumerate(told) if isinstance(outcome, Unavailable)]
    assert refused == [2, 3, 6]


def test_a_bad_url_is_found_at_once() -> None:
    with pytest.raises(BadUrl):
        Store("http://localhost")


async def test_its_end_is_told_to_who_waits(start_redis: StartRedis) -> None:
    server = start_redis()
    made, sent, waiting = Store(server.url), Outcomes(), Outcomes()
    push(made, waiting, 0)
    async with running(made):
        await waiting.all()
        server.pause()
        push(made, sent, 1)
        await asyncio.sleep(0)
    assert isinstance(await sent.one(), OutcomeUnknown)
    push(made, waiting, 2)
    with pytest.raises(Unavailable):
        await made.command(LIST, "PING")
    assert isinstance((await waiting.all())[1], Unavailable)


async def test_a_callbacks_bug_ends_it(redis_url: str) -> None:
    made, bug = Store(redis_url), RuntimeError("a bug")

    def fail(_: Any) -> None:
        raise bug

    task = asyncio.ensure_future(made.run())
    made.submit(PUSH, [LIST], lambda _: ["x"], fail)
    outcomes = Outcomes()
    push(made, outcomes, 1)
    with pytest.raises(ExceptionGroup) as raised:
        await asyncio.wait_for(task, DEADLINE)
    assert raised.group_contains(RuntimeError, match="a bug", depth=2)
    assert isinstance(await outcomes.one(), OutcomeUnknown)


# Refusals


async def test_an_error_of_a_script(redis_url: str, caplog: pytest.LogCaptureFixture) -> None:
    async with storing(redis_url) as made:
        with pytest.raises(Unavailable):
            await made.run_script(Script("bad", "return redis.call('INCR', KEYS[1], 7)"), ["k"], [])
        with pytest.raises(Unavailable):
            await made.command("k", "NOSUCHCOMMAND")
        assert await made.run_script(PUSH, [LIST], ["x"]) == 1
    assert "redis refuses bad" in caplog.text


@pytest.mark.usefixtures("hurried")
async def test_a_script_that_is_no_lua(redis_url: str, caplog: pytest.LogCaptureFixture) -> None:
    async with storing(redis_url) as made:
        with pytest.raises(Unavailable):
            await made.run_script(Script("bad", "this is no Lua"), ["k"], [])
    assert "refuses a script" in caplog.text


async def test_out_of_memory(start_redis: StartRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_REFUSED", 0.1)
    server = start_redis()
    async with storing(server.url) as made:
        server.command("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(Unavailable, match="OOM"):
            await made.run_script(PUSH, [LIST], ["x"])
        assert not made.healthy
        server.command("CONFIG", "SET", "maxmemory", "0")
        await made.run_script(PUSH, [LIST], ["x"])
        await until(lambda: made.healthy)


async def test_no_replica_to_write_to(start_redis: StartRedis) -> None:
    server = start_redis("min-replicas-to-write 1")
    async with storing(server.url) as made:
        with pytest.raises(Unavailable, match="NOREPLICAS"):
            await made.run_script(PUSH, [LIST], ["x"])


async def test_too_many_calls_are_refused_at_once(start_redis: StartRedis) -> None:
    server = start_redis()
    async with storing(server.url, max_calls=2) as made:
        server.pause()
        outcomes = Outcomes()
        for number in range(3):
            push(made, outcomes, number)
        assert [type(told[0]) for told in outcomes.of.values() if told] == [Unavailable]
        assert not made.send_command(LIST, ("PUBLISH", "x", "y"))
        server.resume()
        assert (await outcomes.all())[:2] == [1, 2]
        push(made, outcomes, 3)
        assert (await outcomes.all())[3] == 3
    assert pushed(server) == [0, 1, 3]


async def test_too_many_bytes_are_refused_at_once(start_redis: StartRedis) -> None:
    server = start_redis()
    async with storing(server.url, max_bytes=1000) as made:
        server.pause()
        first = asyncio.ensure_future(made.run_script(PUSH, [LIST], ["x" * 600]))
        await asyncio.sleep(0)
        with pytest.raises(Unavailable):
            await made.run_script(PUSH, [LIST], ["x" * 600])
        server.resume()
        assert await first == 1
        assert await made.run_script(PUSH, [LIST], ["x" * 600]) == 2


# Reasons that end by themselves


async def test_forgotten_scripts_are_given_again_in_order(redis_server: RedisServer) -> None:
    redis_server.command("FLUSHALL")
    async with storing(redis_server.url) as made:
        first, outcomes = Outcomes(), Outcomes()
        push(made, first, 0)
        await first.one()
        redis_server.command("SCRIPT", "FLUSH")
        for number in range(1, 50):
            push(made, outcomes, number)
        assert await outcomes.all() == list(range(2, 51))
    assert pushed(redis_server) == list(range(50))


async def test_what_was_not_ready_is_asked_again_in_order(
    redis_server: RedisServer, redis_url: str
) -> None:
    async with storing(redis_url) as made:
        outcomes = Outcomes()
        for number in range(5):
            made.submit(LATER, [LIST, COUNT], partial(_later, number), outcomes.done(number))
        assert await outcomes.all() == [1, 2, 3, 4, 5]
    assert pushed(redis_server) == [0, 1, 2, 3, 4]


async def test_what_was_overtaken_is_given_up(redis_server: RedisServer, redis_url: str) -> None:
    async with storing(redis_url) as made:
        outcomes, other = Outcomes(), Outcomes()
        made.submit(LATER, [LIST, COUNT], lambda _: (0, 2), outcomes.done(0))
        made.submit(LATER, ["{room}:other", COUNT], lambda _: (0, 2), other.done(0))
        made.submit(LATER, [LIST, COUNT], lambda _: (1, 2), outcomes.done(1))
        first, second = await outcomes.all()
        assert isinstance(first, Unavailable)
        assert second == 1
        assert await other.one() == 1
    assert pushed(redis_server) == [1]


@pytest.mark.usefixtures("hurried")
async def test_what_never_gets_ready_is_unavailable(redis_url: str) -> None:
    async with storing(redis_url) as made:
        with pytest.raises(Unavailable):
            await made.run_script(LATER, [LIST, COUNT], ["x", 1_000_000])
        assert await made.run_script(PUSH, [LIST], ["x"]) == 1


async def test_a_master_that_becomes_a_replica_and_back(start_redis: StartRedis) -> None:
    server = start_redis()
    async with storing(server.url) as made:
        server.command("REPLICAOF", "127.0.0.1", "1")
        outcomes = Outcomes()
        for number in range(20):
            push(made, outcomes, number)
        await until(lambda: not made.healthy)
        server.command("REPLICAOF", "NO", "ONE")
        assert await outcomes.all() == list(range(1, 21))
    assert pushed(server) == list(range(20))


async def test_a_replica_is_no_store(
    start_redis: StartRedis, caplog: pytest.LogCaptureFixture
) -> None:
    server = start_redis("replicaof 127.0.0.1 1", "replica-read-only no")
    made = Store(server.url)
    async with running(made):
        await until(lambda: "it is a replica" in caplog.text)
        assert not made.healthy
        assert not made.send_command(LIST, ("RPUSH", LIST, "x"))


async def test_a_server_that_loads_its_data(start_redis: StartRedis) -> None:
    slowly = ("key-load-delay 3000", "loading-process-events-interval-bytes 1024")
    server = start_redis("appendonly yes", "appendfsync always", *slowly)
    with server.client() as client:
        client.mset({f"k{number}": "x" * 1000 for number in range(100)})
        for number in range(100):
            client.set(f"k{number}", "y" * 1000)
    async with storing(server.url) as made:
        server.kill()
        await until(lambda: not made.healthy)
        starting = asyncio.ensure_future(asyncio.to_thread(server.start))
        await until(lambda: made.healthy)
        assert server.command("INFO", "persistence")["loading"] == 0
        await starting


# Connections that are lost


async def test_a_lost_reply_does_nothing_twice(redis_server: RedisServer, redis_url: str) -> None:
    async with redis_proxy(redis_server.port) as proxy, storing(proxy.url) as made:
        proxy.lose_reply(to=b"EVALSHA")
        outcomes = Outcomes()
        push(made, outcomes, 7, PUSH_ONCE)
        await proxy.reply_lost()
        assert await outcomes.one() == b"there"
    assert pushed(redis_server) == [7]


async def test_lost_connections_change_no_order(redis_server: RedisServer, redis_url: str) -> None:
    async with redis_proxy(redis_server.port) as proxy, storing(proxy.url) as made:
        outcomes = Outcomes()
        for number in range(300):
            push(made, outcomes, number, PUSH_ONCE)
            if number % 60 == 30:
                await asyncio.sleep(0)
                proxy.lose_reply()
                push(made, outcomes, 1000 + number, PUSH_ONCE)
                await proxy.reply_lost()
        assert not any(isinstance(outcome, Exception) for outcome in await outcomes.all())
    expected = []
    for number in range(300):
        expected += [number, 1000 + number] if number % 60 == 30 else [number]
    assert pushed(redis_server) == expected


@pytest.mark.parametrize("hidden", [(), ('rename-command INFO ""',)])
async def test_what_was_sent_again_is_not_done_later_too(
    start_redis: StartRedis, hidden: tuple[str, ...]
) -> None:
    server = start_redis(*hidden)
    async with redis_proxy(server.port) as proxy, storing(proxy.url) as made:
        await made.run_script(PUSH_ONCE, [LIST], [0, 0])
        proxy.delay_request(having=b"EVALSHA")
        outcomes = Outcomes()
        push(made, outcomes, 7, PUSH_ONCE)
        assert await outcomes.one() == 2
        proxy.heal()
        await until(lambda: proxy.connections == 1)
        assert await made.command(LIST, "LLEN", LIST) == 2


async def test_what_must_not_be_sent_twice_is_unknown(redis_server: RedisServer) -> None:
    async with redis_proxy(redis_server.port) as proxy, storing(proxy.url) as made:
        proxy.lose_reply(to=b"EVALSHA")
        outcomes = Outcomes()
        call = Request(PUSH, [LIST], lambda _: ["x"], outcomes.done(0))
        call.idempotent = False
        made.accept(call)
        assert isinstance(await outcomes.one(), OutcomeUnknown)


async def test_a_killed_server_that_comes_back(start_redis: StartRedis) -> None:
    server, changes = start_redis(), []
    made = Store(server.url)
    made.on_store_changed(lambda: changes.append(1))
    async with running(made):
        await until(lambda: made.healthy)
        server.command("CLIENT", "KILL", "TYPE", "normal")
        await made.run_script(PUSH, [LIST], ["x"])
        assert changes == [], "it is the same as before"
        server.kill()
        await until(lambda: not made.healthy)
        outcomes = Outcomes()
        push(made, outcomes, 0)
        server.start()
        assert await outcomes.one() == 1
        await until(lambda: made.healthy and changes == [1])


async def test_a_user_who_may_not_look_or_kill(
    start_redis: StartRedis, caplog: pytest.LogCaptureFixture
) -> None:
    """Then every new connection may be one to another server."""
    server, changes = start_redis("user ann on >s3cret ~* &* +@all -info -client|kill"), []
    made = Store(f"redis://ann:s3cret@{server.address}")
    made.on_store_changed(lambda: changes.append(1))
    async with running(made):
        await until(lambda: made.healthy)
        server.command("CLIENT", "KILL", "TYPE", "normal")
        await until(lambda: changes == [1])
        server.command("ACL", "SETUSER", "ann", "+info")
        server.command("CLIENT", "KILL", "TYPE", "normal")
        await until(lambda: changes == [1, 1])
        server.command("CLIENT", "KILL", "TYPE", "normal")
        await until(lambda: "cannot end a former connection" in caplog.text)
        assert await made.run_script(PUSH, [LIST], ["x"]) == 1
        assert changes == [1, 1]


@pytest.mark.parametrize(
    ("settings", "warnings"),
    [
        ((), 0),
        (("maxmemory 100mb",), 0),
        (("maxmemory-policy allkeys-lru",), 0),
        (("maxmemory 100mb", "maxmemory-policy allkeys-lru"), 1),
        (("maxmemory 100mb", "maxmemory-policy volatile-ttl"), 1),
    ],
)
async def test_a_server_that_drops_keys_is_warned_of_once(
    start_redis: StartRedis,
    caplog: pytest.LogCaptureFixture,
    settings: tuple[str, ...],
    warnings: int,
) -> None:
    caplog.set_level(logging.INFO)
    server = start_redis(*settings)
    async with storing(server.url) as made:
        server.command("CLIENT", "KILL", "TYPE", "normal")
        await until(lambda: "is back" in caplog.text)
        await until(lambda: made.healthy)
    assert caplog.text.count("drops keys when it is full") == warnings


@pytest.mark.usefixtures("hurried")
async def test_a_server_that_is_gone(start_redis: StartRedis) -> None:
    server = start_redis()
    async with storing(server.url) as made:
        server.kill()
        await until(lambda: not made.healthy)
        with pytest.raises(Unavailable):
            await made.run_script(PUSH, [LIST], ["x"])
        assert not made.send_command(LIST, ("PUBLISH", "x", "y"))


@pytest.mark.usefixtures("hurried")
async def test_what_was_given_up_is_forgotten(start_redis: StartRedis) -> None:
    """However long a server is gone, no more is kept than what has time left."""
    server = start_redis()
    async with storing(server.url) as made:
        server.kill()
        await until(lambda: not made.healthy)

        def args(_: int) -> list[str]:
            return ["x"]

        kept, outcomes = weakref.ref(args), Outcomes()
        made.submit(PUSH, [LIST], args, outcomes.done(0))
        del args
        assert kept() is not None
        assert isinstance(await outcomes.one(), Unavailable)
        await until(lambda: kept() is None)


async def test_no_answer_in_time(start_redis: StartRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "DEADLINE", 0.5)
    server = start_redis()
    async with storing(server.url) as made:
        server.pause()
        with pytest.raises(OutcomeUnknown):
            await made.run_script(PUSH, [LIST], ["slow"])
        server.resume()
        assert await made.run_script(PUSH, [LIST], ["x"]) == 2
    assert server.command("LRANGE", LIST, 0, -1) == ["slow", "x"]


@pytest.mark.usefixtures("hurried")
async def test_a_server_that_hangs(start_redis: StartRedis) -> None:
    server = start_redis()
    async with storing(server.url) as made:
        server.pause()
        with pytest.raises(OutcomeUnknown):
            await made.run_script(PUSH, [LIST], ["sent"])
        with pytest.raises(Unavailable):
            await made.run_script(PUSH, [LIST], ["never sent"])
        server.resume()
        await until(lambda: made.healthy)
        assert b"never sent" not in await made.command(LIST, "LRANGE", LIST, 0, -1)


async def test_a_server_that_hangs_for_a_while(
    start_redis: StartRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard, "STALL", 0.1)
    server = start_redis()
    async with storing(server.url) as made:
        server.pause()
        outcomes = Outcomes()
        for number in range(10):
            push(made, outcomes, number, PUSH_ONCE)
        await until(lambda: not made.healthy)
        server.resume()
        assert not any(isinstance(outcome, Exception) for outcome in await outcomes.all())
    assert pushed(server) == list(range(10))


async def test_no_secret_is_logged(
    start_redis: StartRedis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server = start_redis("requirepass right")
    made = Store(f"redis://ann:s3cret@{server.address}")
    async with running(made):
        await until(lambda: "no connection to redis" in caplog.text)
    assert "WRONGPASS" in caplog.text
    assert "s3cret" not in caplog.text + repr(vars(made))
