"""Who is in a room: users and not tabs, a grace for the lost, and crowds."""

import asyncio

import pytest

from application.hub import SUMMARY_INTERVAL
from tests.peer import Peer
from tests.running_server import RunningServer, Serve


async def watched(server: RunningServer) -> Peer:
    """Somebody in room `r` who sees the others come and go."""
    peer, _ = await server.member("watcher", "r")
    return peer


async def test_join_and_leave_are_told_with_their_version(serve: Serve) -> None:
    server = await serve()
    watcher = await watched(server)
    ann, joined = await server.member("ann", "r")
    assert (joined["count"], joined["version"]) == (2, 2)
    assert await watcher.receive() == {
        "type": "join",
        "room": "r",
        "user": "ann",
        "info": None,
        "count": 2,
        "version": 2,
    }
    await ann.ask("leave", room="r")
    assert await watcher.receive() == {
        "type": "leave",
        "room": "r",
        "user": "ann",
        "count": 1,
        "version": 3,
    }
    assert await ann.is_quiet()  # nobody is told of themselves


async def test_sessions_of_one_user_are_one_member(serve: Serve) -> None:
    server = await serve()
    watcher = await watched(server)
    tabs = [(await server.member("ann", "r"))[0] for _ in range(3)]
    await watcher.expect("join", user="ann")
    listed = await watcher.ask("members", room="r")
    assert listed["members"][0] == {"user": "ann", "info": None, "sessions": 3}
    assert listed["count"] == 2
    await tabs[0].close()
    await tabs[1].ask("leave", room="r")
    await server.lost(3)
    assert await watcher.is_quiet()
    await tabs[2].close()
    await watcher.expect("leave", user="ann", count=1, version=3)
    assert await watcher.is_quiet()


@pytest.mark.parametrize("code", [1000, None])
async def test_a_goodbye_leaves_at_once(serve: Serve, code: int | None) -> None:
    server = await serve()
    watcher = await watched(server)
    ann, _ = await server.member("ann", "r")
    await watcher.expect("join", user="ann")
    if code is None:
        ann.connection.protocol.send_close()
        ann.connection.transport.writelines(ann.connection.protocol.data_to_send())
    else:
        await ann.close(code)
    await watcher.expect("leave", user="ann")  # the grace would be 10 s


@pytest.mark.parametrize(
    "loss",
    [
        pytest.param(
            "vanish",
            marks=pytest.mark.lane_only(
                "uvicorn reports a lost connection as a goodbye without a code"
            ),
        ),
        "1001",
        "4999",
    ],
)
async def test_a_return_within_the_grace_is_invisible(serve: Serve, loss: str) -> None:
    server = await serve()
    watcher = await watched(server)
    ann, _ = await server.member("ann", "r")
    await watcher.expect("join", user="ann", version=2)
    if loss == "vanish":
        ann.vanish()
    else:
        await ann.close(int(loss))
    await server.lost(1)
    listed = await watcher.ask("members", room="r")
    assert listed["members"][0] == {"user": "ann", "info": None, "sessions": 0}
    assert (listed["count"], listed["version"]) == (2, 2)
    _, joined = await server.member("ann", "r")
    assert joined["version"] == 2
    assert await watcher.is_quiet()


async def test_who_does_not_return_leaves_after_the_grace(serve: Serve) -> None:
    server = await serve(presence_grace=0.05)
    watcher = await watched(server)
    ann, _ = await server.member("ann", "r")
    await watcher.expect("join", user="ann")
    ann.vanish()
    await watcher.expect("leave", user="ann", count=1, version=3)
    assert await watcher.is_quiet()


@pytest.mark.lane_only("uvicorn reports a lost connection as a goodbye without a code")
async def test_a_user_who_leaves_for_good_within_the_grace_leaves_once(serve: Serve) -> None:
    server = await serve()
    watcher = await watched(server)
    lost, _ = await server.member("ann", "r")
    await watcher.expect("join", user="ann")
    lost.vanish()
    await server.lost(1)
    back, _ = await server.member("ann", "r")
    await back.close()
    await watcher.expect("leave", user="ann")
    assert await watcher.is_quiet()


async def test_members_are_paged_by_name(serve: Serve) -> None:
    server = await serve()
    watcher = await watched(server)
    for name in ("dan", "ann", "cleo", "bob"):
        await server.member(name, "r")
        await watcher.expect("join", user=name)
    names: list[str] = []
    after: str | None = None
    while True:
        page = await watcher.ask("members", room="r", limit=2, after=after)
        assert (page["type"], page["room"], page["count"], page["version"]) == (
            "members",
            "r",
            5,
            5,
        )
        names += [member["user"] for member in page["members"]]
        if not page["more"]:
            break
        assert len(page["members"]) == 2
        after = names[-1]
    assert names == ["ann", "bob", "cleo", "dan", "watcher"]
    outside = await server.user("outside")
    assert (await outside.ask("members", room="r"))["count"] == 5
    empty = await outside.ask("members", room="nobody")
    assert (empty["members"], empty["count"], empty["more"]) == ([], 0, False)


async def test_a_crowd_is_counted_and_listed_again_when_it_is_gone(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("application.hub.SUMMARY_INTERVAL", 0.05)
    server = await serve(rooms=[{"match": "r", "presence_limit": 4}])
    watcher = await watched(server)
    others = []
    for number in range(3):
        others.append((await server.member(f"user-{number}", "r"))[0])
        await watcher.expect("join", user=f"user-{number}", version=number + 2)

    fifth, joined = await server.member("user-3", "r")
    assert (joined["members"], joined["count"], joined["version"]) == (None, 5, 5)
    summary = await watcher.receive()
    assert summary == {"type": "presence", "room": "r", "count": 5, "version": 5}

    await fifth.close()  # four is not under three quarters of four yet: still a crowd
    await watcher.expect("presence", count=4, version=6)
    await others[0].close()
    await watcher.expect("presence", count=3, version=7)
    await others[1].close()
    calm = await watcher.expect("presence", count=2, version=8)
    assert [member["user"] for member in calm["members"]] == ["user-2", "watcher"]
    await others[2].close()
    await watcher.expect("leave", user="user-2", version=9)


async def test_a_crowd_is_told_its_count_at_most_once_an_interval(serve: Serve) -> None:
    """Whatever a burst of comings and goings does to a crowd, a member sees few frames of it, and
    the last one is true."""
    server = await serve(rooms=[{"match": "r", "presence_limit": 1}])
    watcher = await watched(server)
    loop = asyncio.get_running_loop()
    start = loop.time()
    peers = [(await server.member(f"user-{number}", "r"))[0] for number in range(20)]
    async with asyncio.timeout(20):
        frames = [await watcher.expect("presence")]
        while frames[-1]["version"] < 21:
            frames.append(await watcher.expect("presence"))
    assert len(frames) <= (loop.time() - start) / SUMMARY_INTERVAL + 2
    assert frames[-1]["count"] == len(peers) + 1


async def test_rooms_may_count_only_or_keep_no_presence(serve: Serve) -> None:
    server = await serve(
        rooms=[{"match": "counted", "presence": "count"}, {"match": "off", "presence": "off"}]
    )
    ann, joined = await server.member("ann", "off")
    assert (joined["members"], joined["count"], joined["version"]) == (None, None, None)
    page = await ann.ask("members", room="off")
    assert (page["members"], page["count"], page["version"]) == (None, None, None)
    await server.member("bob", "off")
    assert await ann.is_quiet()

    joined = await ann.ask("join", room="counted")
    assert (joined["members"], joined["count"], joined["version"]) == (None, 1, 1)
    page = await ann.ask("members", room="counted")
    assert (page["members"], page["count"]) == (None, 1)
    await server.member("cleo", "counted")
    assert "members" not in await ann.expect("presence", count=2, version=2)
