"""Harm that needs no fault: what clients do to each other."""

import asyncio
import random
import re
from collections.abc import Coroutine
from contextlib import suppress

import httpx

from tests.chaos.connection import Connection, Frame, Refused
from tests.chaos.history import Acked, Cut, Invoked, Unknown, now
from tests.chaos.publisher import Publisher
from tests.chaos.run import Row, Run
from tests.chaos.settings import COMMON

TASKS = 100
_SESSIONS = re.compile(r"^hubbub_sessions(?:\{[^}]*\})? (\S+)$", re.MULTILINE)
_POISON = (
    b'{"type":"publish","room":"%b","data":"\\ud800"}',
    b'{"type":"publish","room":"%b","data":NaN}',
    b'{"type":"publish","room":"%b","data":1e999}',
    b'{"type":"publish","room":"%b","data":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    b'{"type":"publish","room":"%b","data":"' + b"x" * 1_000_000 + b'"}',
    b'{"type":"publish","room":"%b"',
    b"[1,2,3]",
)


async def cancelled(run: Run) -> None:
    """Requests that are given up at any moment of their life, over a slow Redis."""
    run.fault("HTTP requests are given up in the middle")
    for line in run.system.lines:
        line.latency = (0.01, 0.05)
    async with httpx.AsyncClient(trust_env=False, timeout=10.0) as client:
        rounds = [_requests(run, client, random.Random(run.rng.random()), n) for n in range(10)]
        await asyncio.gather(*rounds)


async def _requests(run: Run, client: httpx.AsyncClient, rng: random.Random, who: int) -> None:
    for number in range(40):
        op, room = f"h{who}-{run.name}:{number}", rng.choice(run.rooms)
        node = rng.choice(run.system.nodes)
        url = f"http://127.0.0.1:{node.alive.port}/v1/rooms/{room}/messages"
        run.history.append(Invoked(now(), "http", op, room))
        try:
            async with asyncio.timeout(rng.uniform(0.0, 0.25)):
                answer = await client.post(url, json={"data": op, "key": op})
        except (TimeoutError, httpx.HTTPError):
            run.history.append(Unknown(now(), "http", op, "given up"))
            continue
        if answer.status_code not in (200, 201):
            run.history.append(Unknown(now(), "http", op, str(answer.status_code)))
            continue
        told = answer.json()
        run.promise(told["room"] == room, f"{op} was told of {told['room']}, not {room}")
        place = (told["log"], told["seq"], told["message_id"], told["duplicate"])
        run.history.append(Acked(now(), "http", op, *place))


async def one_key(run: Run) -> None:
    run.fault("a hundred tasks publish under one key at all nodes")
    same = [_at(run, number) for number in range(len(run.system.nodes))]
    before = {id(event) for event in run.history if isinstance(event, Acked)}
    ops = [f"same-{number}-{run.name}" for number in range(5)]
    try:
        for op in ops:
            room = run.rng.choice(run.rooms)
            tasks = (same[n % len(same)].publish_as(op, room) for n in range(TASKS))
            # Answers go by id, which is the op: one at a time for each connection.
            await _in_turn(list(tasks), len(same))
    finally:
        for publisher in same:
            await publisher.stop()
    acks = [e for e in run.history if isinstance(e, Acked) and id(e) not in before]
    for op in ops:
        places = {(ack.log, ack.seq, ack.id) for ack in acks if ack.op == op}
        run.promise(len(places) == 1, f"{op} has the places {places}")


def _at(run: Run, number: int) -> Publisher:
    node = run.system.nodes[number]
    return Publisher(f"same-{run.name}", lambda: node.alive.port, run.history, run.rng)


async def _in_turn(tasks: list[Coroutine[None, None, None]], lanes: int) -> None:
    async def lane(first: int) -> None:
        for task in tasks[first::lanes]:
            await task

    await asyncio.gather(*(lane(first) for first in range(lanes)))


async def poison(run: Run) -> None:
    run.fault("frames that nobody can read")
    cuts = sum(isinstance(event, Cut) for event in run.history)
    for number in range(60):
        node = run.rng.choice(run.system.nodes)
        frame = run.rng.choice(_POISON)
        room = run.rng.choice(run.rooms).encode()
        poisoned = frame.replace(b"%b", room)
        answers: list[Frame] = []
        ended = asyncio.Event()
        connection = await _open(node.alive.port, f"poison{number}", answers, ended)
        connection.send_text(poisoned)

        def refused(answers: list[Frame] = answers, ended: asyncio.Event = ended) -> bool:
            return ended.is_set() or any(frame["type"] == "error" for frame in answers)

        run.promise(await run.until(refused, 10.0), f"it was taken: {poisoned[:60]!r}")
        connection.vanish()
    now_cut = sum(isinstance(event, Cut) for event in run.history)
    run.promise(now_cut == cuts, "somebody else was cut")


async def _open(port: int, user: str, answers: list[Frame], ended: asyncio.Event) -> Connection:
    return await Connection.open(port, f"/v1/ws?user={user}", answers.append, lambda _: ended.set())


async def comings_and_goings(run: Run) -> None:
    run.fault("150 clients join, leave, close and vanish at random")
    rng = run.rng
    await asyncio.gather(*(_restless(run, random.Random(rng.random()), n) for n in range(150)))
    ours = len(run.members) + len(run.readers) + len(run.publishers)
    held = await _sessions(run, ours)
    run.promise(held == ours, f"the nodes hold {held} sessions of {ours} clients")


async def _restless(run: Run, rng: random.Random, number: int) -> None:
    end = asyncio.get_running_loop().time() + 4.0
    await asyncio.sleep(rng.uniform(0.0, 1.0))
    while asyncio.get_running_loop().time() < end:
        node = rng.choice(run.system.nodes)
        with suppress(OSError, TimeoutError, Refused):
            connection = await _open(node.alive.port, f"x{number}", [], asyncio.Event())
            for _ in range(rng.randrange(5)):
                kind = rng.choice(("join", "join", "leave"))
                room = f"hall-{run.name}-{rng.randrange(5)}"
                connection.send({"type": kind, "id": 1, "room": room})
                await asyncio.sleep(rng.choice((0.0, 0.0, 0.02)))
            (connection.close if rng.random() < 0.5 else connection.vanish)()


async def _sessions(run: Run, expected: int) -> int:
    """How many sessions the nodes hold together, once it is as many as expected."""
    loop = asyncio.get_running_loop()
    end, total = loop.time() + 20.0, -1
    async with httpx.AsyncClient(trust_env=False, timeout=10.0) as client:
        while total != expected and loop.time() < end:
            total = 0
            for node in run.system.nodes:
                text = (await client.get(f"{node.alive.url}/metrics")).text
                total += sum(int(float(count)) for count in _SESSIONS.findall(text))
            await asyncio.sleep(0.1)
    return total


ROWS = [
    Row(
        "35",
        "Request given up in the middle",
        "400 HTTP publishes, each given up at a random moment, over a slow Redis",
        "nobody gets another one's answer; each is done once or not",
        cancelled,
        COMMON,
    ),
    Row(
        "37",
        "Concurrent publishers, one key",
        "100 tasks over 3 nodes, five times",
        "one position",
        one_key,
        COMMON,
    ),
    Row(
        "38",
        "Poison payload",
        "lone surrogates, NaN, deep nesting, 1 MB, broken JSON",
        "refused; nobody else notices",
        poison,
        COMMON,
    ),
    Row(
        "39",
        "Join, leave and close races",
        "150 clients doing so at random",
        "no session is left behind",
        comings_and_goings,
        COMMON,
    ),
]
