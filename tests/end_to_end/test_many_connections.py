"""A crowd on one process: idle connections cost nothing, a busy room loses nothing."""

import asyncio

from tests.peer import Peer, until
from tests.server_process import ServeProcess, ServerProcess

IDLE = 300
MEMBERS = 100
MESSAGES = 300
AT_ONCE = 50  # handshakes under way, well below any listen backlog
CONNECTION_BYTES = 128 * 1024  # far more than one idle connection may cost
SPARE_FILES = 10


async def connect_all(server: ServerProcess, paths: list[str]) -> list[Peer]:
    gate = asyncio.Semaphore(AT_ONCE)

    async def connect(path: str) -> Peer:
        async with gate:
            return await Peer.connect(server.ws_url + path)

    return await asyncio.gather(*map(connect, paths))


async def close_all(peers: list[Peer]) -> None:
    await asyncio.gather(*(peer.close() for peer in peers))


async def listen(peer: Peer) -> list[int]:
    """The seqs of all messages, as they come."""
    await peer.expect("connected")
    await peer.expect("joined")
    await peer.send({"type": "join", "room": "r", "id": "join"})
    heard: list[int] = []
    while len(heard) < MESSAGES:
        frame = await peer.receive(within=30)
        assert frame["type"] in ("joined", "join", "message"), frame
        if frame["type"] == "message":
            heard.append(frame["seq"])
    return heard


async def test_a_busy_room_beside_many_idle_connections(serve_process: ServeProcess) -> None:
    server = await serve_process(
        HUBBUB_LIMITS__MESSAGES_PER_SECOND="0",
        HUBBUB_LIMITS__COMMANDS_PER_SECOND="0",
        HUBBUB_PING_INTERVAL="600",  # so that what comes is of the rooms
    )
    files, memory = server.files(), server.memory()
    idle = await connect_all(server, [f"/v1/ws?user=idle-{i}" for i in range(IDLE)])
    members = await connect_all(server, [f"/v1/ws?user=member-{i}" for i in range(MEMBERS)])
    (talker,) = await connect_all(server, ["/v1/ws?user=talker"])
    assert server.memory() - memory < (IDLE + MEMBERS) * CONNECTION_BYTES

    listening = [asyncio.create_task(listen(peer)) for peer in members]
    await talker.expect("connected")
    await talker.expect("joined")
    async with asyncio.timeout(10):
        while (await talker.ask("members", room="r", limit=1))["count"] < MEMBERS:
            pass
    for number in range(MESSAGES):
        ack = await talker.ask("publish", room="r", data={"number": number})
        assert ack["seq"] == number + 1
    everything = list(range(1, MESSAGES + 1))
    heard = await asyncio.gather(*listening)
    assert heard == [everything] * MEMBERS

    for peer in idle:
        await peer.expect("connected")
        await peer.expect("joined")
        assert await peer.is_quiet()
    await close_all([*idle, *members, talker])
    await until(lambda: server.files() <= files + SPARE_FILES)
    assert server.stderr.count("ERROR") == 0, server.stderr
