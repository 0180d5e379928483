"""One client that makes as many rooms as it can: what it costs has an end."""

import pytest

from tests.peer import Peer
from tests.server_process import ServeProcess, ServerProcess
from tests.wire import Wire, text

ROOMS = 100_000
FEWER = 20_000
UNLIMITED = {
    "HUBBUB_PING_INTERVAL": "600",
    "HUBBUB_LIMITS__MESSAGES_PER_SECOND": "0",
    "HUBBUB_LIMITS__COMMANDS_PER_SECOND": "0",
}
BATCH = 2_000


async def flood(process: ServerProcess, name: str, *frames: str, rooms: int = ROOMS) -> None:
    """Send these for each of so many rooms, `%d` its number, as fast as they are answered."""
    wire = await Wire.upgraded(process.port, f"/v1/ws?user={name}")
    await wire.until(b'"room":"@')
    for start in range(0, rooms, BATCH):
        numbers = range(start, start + BATCH)
        wire.send(b"".join(text(frame % number) for number in numbers for frame in frames))
        wire.send(text('{"type":"ping","id":"end"}'))
        await wire.until(b'"id":"end"')
    await wire.shut()


def publish(room: str) -> str:
    return '{"type":"publish","room":"' + room + '%d","data":"' + "x" * 40 + '"}'


@pytest.mark.timeout(180)
async def test_rooms_without_end_take_memory_with_one(serve_process: ServeProcess) -> None:
    process = await serve_process(**UNLIMITED)
    reading = '{"type":"history","room":"r%d"}'
    await flood(process, "warm", reading, rooms=FEWER)  # makes no room
    before = process.memory()
    await flood(process, "one", publish("a"))
    full = process.memory()
    assert full - before < ROOMS * 3_000
    await flood(process, "two", publish("b"))
    assert process.memory() - full < 0.2 * (full - before) + 20_000_000
    # Who talks in a room of before finds it as it was left.
    peer = await Peer.connect(f"{process.ws_url}/v1/ws?user=ann")
    await peer.expect("connected")
    await peer.expect("joined")
    assert (await peer.ask("publish", room=f"b{ROOMS - 1}", data=1, echo=False))["seq"] == 2
    await peer.close()


@pytest.mark.timeout(180)
async def test_joining_and_leaving_leaves_little(serve_process: ServeProcess) -> None:
    process = await serve_process(**UNLIMITED)
    visit = ('{"type":"join","room":"r%d"}', '{"type":"leave","room":"r%d"}')
    await flood(process, "one", *visit, rooms=FEWER)
    before = process.memory()
    await flood(process, "two", *visit, rooms=FEWER)
    assert process.memory() - before < 10_000_000
