"""A room under load with one member who does not read: nobody else notices, nothing is left."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from tests.peer import Peer
from tests.raw_client import RawClient
from tests.server_process import ServeProcess, ServerProcess

MEMBERS = 100
VALUE = "x" * 30_000
MOST_LEFT = 24 * 2**20  # bytes that memory may have grown by in the end: allocators keep some


async def member(server: ServerProcess, name: str) -> Peer:
    peer = await Peer.connect(f"{server.ws_url}/v1/ws?user={name}")
    await peer.expect("connected")
    await peer.expect("joined", room=f"@{name}")
    assert (await peer.ask("join", room="r"))["type"] == "joined"
    return peer


@asynccontextmanager
async def laggard(server: ServerProcess) -> AsyncIterator[RawClient]:
    """A member of `r` whose line takes a kilobyte, and no more."""
    client = await RawClient.connect(server.port, "/v1/ws?user=laggard", receive_buffer=1024)
    try:
        await client.send({"type": "join", "room": "r"})
        yield client
    finally:
        client.close()


async def sample(server: ServerProcess, name: str) -> float:
    """A value of the exposition; 0 for one that is not there yet."""
    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as client:
        exposition = (await client.get("/metrics")).text
    values = [line.split()[-1] for line in exposition.splitlines() if line.startswith(name + " ")]
    return float(values[0]) if values else 0.0


async def hears(peer: Peer, numbers: range) -> list[int]:
    """The seqs of the messages that come next, as many as are expected."""
    seqs: list[int] = []
    while len(seqs) < len(numbers):
        frame = await peer.receive()
        if frame["type"] == "message":
            assert frame["data"] == VALUE
            seqs.append(frame["seq"])
    return seqs


async def test_one_who_does_not_read_is_cut_and_nobody_else_notices(
    serve_process: ServeProcess,
) -> None:
    server = await serve_process(
        HUBBUB_LIMITS__MESSAGES_PER_SECOND="0", HUBBUB_LIMITS__OUTBOX_BYTES="262144"
    )
    members = await asyncio.gather(*(member(server, f"user{n}") for n in range(MEMBERS)))
    publisher, *others = members
    before = server.memory()
    async with laggard(server):
        published = 0
        while not await sample(server, 'hubbub_disconnects_total{code="4102"}'):
            numbers = range(published + 1, published + 11)
            hearing = [asyncio.create_task(hears(peer, numbers)) for peer in others]
            for number in numbers:
                ack = await publisher.ask("publish", room="r", data=VALUE, echo=False)
                assert ack["seq"] == number
            assert await asyncio.gather(*hearing) == [list(numbers)] * len(others)
            published = numbers[-1]
            assert published * len(VALUE) < 32 * 2**20, "it is never cut"
        assert await sample(server, "hubbub_sessions") == MEMBERS
    assert server.memory() - before < MOST_LEFT
    assert "Traceback" not in server.stderr
    for peer in members:
        peer.vanish()
