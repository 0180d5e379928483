"""The Python client as its users have it, against a real server in the same loop."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from hubbub_client import (
    ConnectTimeout,
    Disconnected,
    Event,
    Gap,
    Hub,
    Joined,
    Left,
    Message,
    Position,
    Recovered,
    Refused,
    Removed,
    RemovedFromRoom,
    Room,
    State,
    StateChange,
    connect,
)

from domain.identifiers import RoomId, UserId
from domain.orders import Enter, Kick, SendAway
from tests.peer import DEADLINE, until
from tests.redis_proxy import RedisProxy, redis_proxy
from tests.running_server import RunningServer, Serve
from tests.tokens import JWT, token

QUICK: dict[str, Any] = {"proxy": None, "backoff": (0.01, 0.05)}


@pytest.fixture(autouse=True)
async def nothing_left() -> AsyncIterator[None]:
    """A hub takes all of its tasks with it. The server's are there: it is stopped later."""
    yield
    left = [task for task in asyncio.all_tasks() if "hubbub_client" in repr(task)]
    assert left == []


@pytest.fixture
async def server(serve: Serve) -> RunningServer:
    return await serve()


@pytest.fixture
async def line(server: RunningServer) -> AsyncIterator[RedisProxy]:
    """What a hub of these tests connects by."""
    async with redis_proxy(server.port) as proxy:
        yield proxy


Start = Callable[..., Awaitable[Hub]]


@pytest.fixture
async def start(line: RedisProxy) -> AsyncIterator[Start]:
    """Hubs that are closed at the end."""
    async with AsyncExitStack() as stack:

        async def begin(user: str = "ann", **options: Any) -> Hub:
            address = f"ws://127.0.0.1:{line.port}"
            return await stack.enter_async_context(
                connect(address, user=user, **{**QUICK, **options})
            )

        yield begin


async def some(room: Room, count: int) -> list[Any]:
    """The data of the next messages."""
    found = []
    async with asyncio.timeout(DEADLINE):
        async for message in room:
            found.append(message.data)
            if len(found) == count:
                break
    return found


async def happened(room: Room, kind: type[Event]) -> Event:
    """The next event of that kind; others are passed over."""
    async with asyncio.timeout(DEADLINE):
        async for event in room.events():
            if isinstance(event, kind):
                return event
    raise AssertionError("the room ended")


async def is_offline(hub: Hub) -> None:
    await until(lambda: hub.state.state is State.OFFLINE)


# Coming and going


async def test_the_beginning_as_it_is_meant(server: RunningServer) -> None:
    async with connect(server.url, user="ann", **QUICK) as hub:
        room = await hub.join("chat:lobby", history=20)
        published = await room.publish({"text": "hello"})
        async for message in room:
            assert (message.data, message.sender) == ({"text": "hello"}, "ann")
            assert message.position == published
            break
        assert room.position == published
        assert [member.user for member in room.members or []] == ["ann"]
        assert (hub.user, room.count) == ("ann", 1)
    assert hub.state.state is State.CLOSED
    await server.lost(0)


async def test_where_nobody_listens_it_gives_up_in_time(unused_port: int) -> None:
    changes: list[StateChange] = []
    hub = connect(
        f"ws://127.0.0.1:{unused_port}", open_timeout=0.2, on_state=changes.append, **QUICK
    )
    with pytest.raises(ConnectTimeout, match=r"no connection in 0\.2 s: .*refused|Connect"):
        await hub.__aenter__()
    assert {change.state for change in changes} == {State.CONNECTING, State.OFFLINE, State.CLOSED}


@pytest.fixture
async def unused_port() -> int:
    nobody = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = int(nobody.sockets[0].getsockname()[1])
    nobody.close()
    await nobody.wait_closed()
    return port


async def test_who_is_not_let_in_is_told_why(serve: Serve) -> None:
    server = await serve(**JWT)
    with pytest.raises(Disconnected, match="token_invalid") as refused:
        await connect(server.url, "no.good.token", **QUICK).__aenter__()
    assert refused.value.close_code == 4001


async def test_a_hub_that_was_not_started_says_so() -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await connect("ws://127.0.0.1:1").join("r")


async def test_a_hub_may_be_used_before_it_is_connected(server: RunningServer) -> None:
    hub = connect(server.url, user="ann", **QUICK)
    hub.start()
    room = await hub.join("r")
    assert (await room.publish(1)).seq == 1
    await hub.close()
    await hub.close()
    with pytest.raises(Disconnected):
        await hub.publish("r", 2)


async def test_closing_ends_the_loops_and_fails_what_waits(
    server: RunningServer, line: RedisProxy, start: Start
) -> None:
    hub = await start()
    room = await hub.join("r")
    reading = asyncio.create_task(some(room, 5))
    line.refuse()
    line.drop()
    await is_offline(hub)
    publishing = asyncio.create_task(room.publish("never"))
    joining = asyncio.create_task(hub.join("s"))
    await asyncio.sleep(0)
    await hub.close()
    assert await reading == []  # a loop that is over, and no error
    for task in (publishing, joining):
        with pytest.raises(Disconnected, match="closed"):
            await task


async def test_a_cancelled_beginning_leaves_nothing(line: RedisProxy) -> None:
    line.hold_replies()
    entering = asyncio.create_task(connect(f"ws://127.0.0.1:{line.port}", **QUICK).__aenter__())
    await until(lambda: line.connections > 0)
    entering.cancel()
    await asyncio.wait({entering})
    assert entering.cancelled()
    await until(lambda: line.connections == 0)


async def test_a_dead_link_does_not_hold_up_the_end(line: RedisProxy, start: Start) -> None:
    hub = await start()
    line.hold_requests()
    line.hold_replies()
    async with asyncio.timeout(5):
        await hub.close()


async def test_a_callback_that_fails_is_logged_and_harms_nobody(server: RunningServer) -> None:
    def fail(change: StateChange) -> None:
        raise ZeroDivisionError(change.state)

    async with connect(server.url, on_state=fail, **QUICK) as hub:
        assert (await hub.publish("r", 1)).seq == 1
    # The server's log takes what all loggers of the process have to say.
    assert server.log.text.count("ZeroDivisionError: connected") == 1
    server.log.errors.clear()


async def test_a_guest_comes_back_under_the_same_name(
    server: RunningServer, line: RedisProxy
) -> None:
    async with connect(f"ws://127.0.0.1:{line.port}", **QUICK) as hub:
        name = hub.user
        room = await hub.join("r")
        line.drop()
        await happened(room, Recovered)
        assert hub.user == name
        assert name is not None
        assert name.startswith("guest-")


# Tokens


async def test_a_failed_fetch_of_a_token_is_tried_again(serve: Serve) -> None:
    server = await serve(**JWT)
    answers: Iterator[OSError | str] = iter([OSError("no network"), token("ann")])

    async def fetch() -> str:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    async with connect(server.url, fetch, **QUICK) as hub:
        assert hub.user == "ann"


async def test_a_token_without_another_ends_with_it(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("application.session.EXPIRY_LEEWAY", 0.0)
    server = await serve(**JWT)
    async with connect(server.url, token("ann", 2.0), **QUICK) as hub:
        async with asyncio.timeout(DEADLINE):
            change = await hub.closed()
    assert (change.state, change.code) == (State.CLOSED, 4101)


async def test_the_token_of_another_user_is_the_end(serve: Serve) -> None:
    """Keys and positions are one user's."""
    server = await serve(**JWT)
    users = itertools.chain(["ann"], itertools.repeat("bob"))
    async with redis_proxy(server.port) as line:
        url = f"ws://127.0.0.1:{line.port}"
        async with connect(url, lambda: token(next(users), 0.01), **QUICK) as hub:
            line.drop()
            async with asyncio.timeout(DEADLINE):
                change = await hub.closed()
    assert (change.code, change.reason) == (4003, "the token is bob's, not ann's")


async def test_the_token_is_in_no_log(serve: Serve) -> None:
    server = await serve(**JWT, log_level="debug")
    secret = token("ann")
    async with connect(server.url, secret, **QUICK) as hub:
        await hub.publish("r", 1)
    assert secret not in server.log.text


# Publishing


async def test_a_key_of_ones_own(start: Start) -> None:
    hub = await start()
    first = await hub.publish("r", "once", key="order-7")
    again = await hub.publish("r", "once", key="order-7")
    assert again == first
    assert (first.duplicate, again.duplicate) == (False, True)
    assert again.message_id == first.message_id
    with pytest.raises(Refused) as refused:
        await hub.publish("r", "something else", key="order-7")
    assert refused.value.code == "key_conflict"


async def test_without_echo_the_ack_takes_the_place_of_the_message(
    server: RunningServer, line: RedisProxy, start: Start
) -> None:
    hub = await start()
    room = await hub.join("r")
    bob, _ = await server.member("bob", "r")
    for number in range(3):
        await room.publish(f"mine {number}", echo=False)
        await bob.expect("message", data=f"mine {number}")
    await bob.ask("publish", room="r", data="yours", echo=False)
    assert await some(room, 1) == ["yours"]
    assert room.position is not None
    assert room.position.seq == 4
    line.drop()
    event = await happened(room, Recovered)
    assert event == Recovered(0)


async def test_many_at_once_arrive_once_each_and_in_order(start: Start) -> None:
    hub = await start()
    room = await hub.join("r")
    async with asyncio.TaskGroup() as tasks:
        published = [tasks.create_task(room.publish(number)) for number in range(150)]
    assert [task.result().seq for task in published] == list(range(1, 151))
    assert await some(room, 150) == list(range(150))


async def test_a_publish_cancelled_before_it_was_sent_is_not_sent(
    server: RunningServer, line: RedisProxy, start: Start
) -> None:
    hub = await start()
    line.refuse()
    line.drop()
    await is_offline(hub)
    publishing = asyncio.create_task(hub.publish("r", "withdrawn"))
    await asyncio.sleep(0)
    publishing.cancel()
    await asyncio.wait({publishing})
    assert publishing.cancelled()
    await line.listen()
    assert (await hub.publish("r", "next")).seq == 1


async def test_a_publish_cancelled_on_its_way_is_not_repeated(
    server: RunningServer, line: RedisProxy, start: Start
) -> None:
    hub = await start()
    bob, _ = await server.member("bob", "r")
    line.hold_requests()
    before = line.chunks
    publishing = asyncio.create_task(hub.publish("r", "cancelled"))
    await until(lambda: line.chunks > before)
    publishing.cancel()
    await asyncio.wait({publishing})
    line.drop()
    line.heal()
    await is_offline(hub)
    await hub.publish("r", "next")
    await bob.expect("message", seq=1, data="next")


async def test_ephemeral_messages_are_now_or_never(
    server: RunningServer, line: RedisProxy, start: Start
) -> None:
    hub = await start()
    room = await hub.join("r")
    assert await room.publish("typing", ephemeral=True) is True
    assert await some(room, 1) == ["typing"]
    line.refuse()
    line.drop()
    await is_offline(hub)
    assert await room.publish("too late", ephemeral=True) is False
    assert await hub.publish("other", "too late", ephemeral=True) is False


async def test_an_ephemeral_message_that_is_refused_raises(serve: Serve) -> None:
    server = await serve(rooms=[{"match": "in", "publish": "members"}])
    async with connect(server.url, **QUICK) as hub:
        with pytest.raises(Refused, match="not_joined"):
            await hub.publish("in", 1, ephemeral=True)


# Rooms


async def test_a_room_is_joined_once(server: RunningServer, start: Start) -> None:
    hub = await start()
    first, second = await asyncio.gather(hub.join("r"), hub.join("r"))
    await first.publish(1)
    assert await some(second, 1) == [1]
    assert server.metric("rooms") == 2  # and @ann


async def test_a_cancelled_join_is_no_membership(
    server: RunningServer, line: RedisProxy, start: Start
) -> None:
    bob, _ = await server.member("bob", "r")
    hub = await start()
    line.hold_replies()
    joining = asyncio.create_task(hub.join("r"))
    await bob.expect("join", user="ann")
    joining.cancel()
    await asyncio.wait({joining})
    await bob.expect("leave", user="ann")
    line.heal()
    room = await hub.join("r")
    await room.publish("in")
    assert await some(room, 1) == ["in"]


async def test_a_loop_ends_when_the_room_is_left(server: RunningServer, start: Start) -> None:
    hub = await start()
    room, marker = await hub.join("r"), await hub.join("marker")
    await room.publish(1)
    await room.publish(2)
    await marker.publish("behind them")
    assert await some(marker, 1) == ["behind them"]
    await room.leave()
    assert [message.data async for message in room] == [1, 2]
    await room.leave()
    other = await hub.join("r", history=1)
    assert await some(other, 1) == [2]


async def test_who_is_kicked_finds_out_in_the_loop(server: RunningServer, start: Start) -> None:
    hub = await start()
    room, watched = await hub.join("r"), await hub.join("s")
    for name in ("r", "s"):
        await server.container.control().give(Kick(RoomId(name), UserId("ann"), "be nice"))
    with pytest.raises(RemovedFromRoom, match="be nice") as removed:
        await some(room, 1)
    assert removed.value.code == "kicked"
    assert await happened(watched, Removed) == Removed("kicked", "be nice")
    assert (await hub.publish("elsewhere", 1)).seq == 1


async def test_who_is_sent_away_finds_out_in_the_loop(server: RunningServer, start: Start) -> None:
    hub = await start()
    room = await hub.join("r")
    await server.container.control().give(SendAway(UserId("ann"), "enough"))
    with pytest.raises(Disconnected, match=r"4003.*enough"):
        await some(room, 1)
    assert (await hub.closed()).code == 4003


async def test_rooms_that_the_server_puts_us_into(
    server: RunningServer, line: RedisProxy, start: Start
) -> None:
    rooms: list[Room] = []
    hub = await start(on_room=rooms.append)
    await server.container.control().give(Enter(RoomId("surprise"), UserId("ann")))
    await until(lambda: len(rooms) == 1)
    (room,) = rooms
    await room.publish(1)
    assert (room.name, await some(room, 1)) == ("surprise", [1])
    line.drop()
    assert await happened(room, Recovered) == Recovered(0)
    assert await hub.join("surprise", history=5)
    await room.publish(2)
    assert await some(room, 1) == [2]


async def test_events_of_members(server: RunningServer, start: Start) -> None:
    hub = await start()
    room = await hub.join("r")
    bob, _ = await server.member("bob", "r")
    assert await happened(room, Joined) == Joined("bob", None)
    await bob.close()
    assert await happened(room, Left) == Left("bob")
    assert room.count == 1


async def test_another_process_goes_on_where_this_one_stopped(start: Start) -> None:
    hub = await start()
    room = await hub.join("jobs")
    for number in range(5):
        await room.publish(number)
    assert await some(room, 2) == [0, 1]
    stored = room.position
    assert stored is not None
    later = await start("ann")
    assert await some(await later.join("jobs", position=stored), 3) == [2, 3, 4]


async def test_history_by_position(start: Start) -> None:
    hub = await start()
    room = await hub.join("r")
    published = [await room.publish(number) for number in range(6)]
    page = await room.history(before=published[4], limit=2)
    assert ([message.data for message in page.messages], page.more) == ([2, 3], True)
    page = await hub.history("r", after=published[3])
    assert ([message.data for message in page.messages], page.more) == ([4, 5], False)
    page = await room.history(after=3, limit=1)
    assert [message.position for message in page.messages] == [published[3]]
    assert (await hub.history("r", before=Position("another log", 3))).messages == []
    with pytest.raises(ValueError, match="exclude"):
        await hub.history("r", before=published[0], after=published[0])


# Readers that do not keep up


async def test_a_slow_reader_holds_up_nobody_and_misses_nothing(serve: Serve) -> None:
    server = await serve(
        rooms=[{"match": "fast", "history_size": 1000}], limits={"messages_per_second": 0}
    )
    async with connect(server.url, user="ann", max_queue=10, **QUICK) as hub:
        fast, slow = await hub.join("fast"), await hub.join("slow")
        bob = await server.user("bob")
        for number in range(300):
            await bob.ask("publish", room="fast", data=number)
        await slow.publish("not held up")
        assert await some(slow, 1) == ["not held up"]
        assert await some(fast, 150) == list(range(150))
        for number in range(300, 310):
            await bob.ask("publish", room="fast", data=number)
        assert await some(fast, 160) == list(range(150, 310))


async def test_what_a_slow_reader_missed_for_good_is_told(serve: Serve) -> None:
    server = await serve(
        rooms=[{"match": "*", "history_size": 5}], limits={"messages_per_second": 0}
    )
    async with connect(server.url, user="ann", max_queue=10, **QUICK) as hub:
        rooms = [await hub.join(name) for name in ("heeded", "unheeded")]
        bob = await server.user("bob")
        for room in rooms:
            for number in range(1, 101):
                await bob.ask("publish", room=room.name, data=number)
        await hub.publish("marker", 1)  # so everything before it has come
        seen = []
        async with asyncio.timeout(DEADLINE):
            async for event in rooms[0].events():
                seen.append(event.data if isinstance(event, Message) else event)
                if seen[-1] == 100:
                    break
        told = [event for event in seen if isinstance(event, Joined | Gap)]
        assert told == [Gap("gap", first=96)]
        assert [event for event in seen if event not in told] == [
            *range(1, 11), 96, 97, 98, 99, 100,
        ]  # fmt: skip
        assert await some(rooms[1], 15) == [*range(1, 11), 96, 97, 98, 99, 100]
        assert "Gap(outcome='gap', first=96" in server.log.text


@pytest.mark.parametrize(
    "options", [{"backoff": (3.0, 1.0)}, {"max_queue": 0}], ids=["backoff", "max_queue"]
)
async def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"not possible|max_queue"):
        connect("ws://127.0.0.1:1", **options)


async def test_what_is_no_address_is_refused() -> None:
    with pytest.raises(ValueError, match="not the address"):
        connect("chat:lobby")
