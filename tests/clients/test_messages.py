"""What both clients do while the connection lasts."""

from itertools import pairwise

from domain.identifiers import RoomId, UserId
from domain.orders import Kick, SendAway
from tests.clients.conftest import Scene, fall_back


async def test_a_join_brings_the_newest_messages_and_then_all(scene: Scene) -> None:
    server = await scene.begin()
    bob = await server.user("bob")
    for number in (1, 2, 3):
        await bob.ask("publish", room="r", data=number)
    ann = await scene.client()
    await ann.join("r", history=2)
    await bob.ask("publish", room="r", data=4)
    assert await ann.heard("r", 3) == [2, 3, 4]
    assert [event["seq"] for event in ann.seen("message")] == [2, 3, 4]
    assert {event["from"] for event in ann.seen("message")} == {"bob"}


async def test_without_history_it_begins_with_what_comes_next(scene: Scene) -> None:
    server = await scene.begin()
    bob = await server.user("bob")
    await bob.ask("publish", room="r", data="before")
    ann = await scene.member("r")
    await bob.ask("publish", room="r", data="after")
    assert await ann.heard("r", 1) == ["after"]


async def test_a_publish_tells_its_position(scene: Scene) -> None:
    server = await scene.begin()
    ann = await scene.member("r")
    first = await ann.publish("r", {"text": "häl\u2028lo", "n": [1, None, True, 0.5]})
    second = await ann.publish("r", 2, ref="q")
    assert (first["seq"], second["seq"]) == (1, 2)
    _, joined = await server.member("bob", "r", history=9)
    assert joined["position"] == second
    assert await ann.heard("r", 2) == [{"text": "häl\u2028lo", "n": [1, None, True, 0.5]}, 2]


async def test_publishing_takes_no_membership(scene: Scene) -> None:
    server = await scene.begin()
    bob, _ = await server.member("bob", "r")
    ann = await scene.client()
    assert (await ann.publish("r", "from outside"))["seq"] == 1
    await bob.expect("message", data="from outside")


async def test_members_are_kept_current(scene: Scene) -> None:
    server = await scene.begin()
    ann = await scene.member("r")
    bob, _ = await server.member("bob", "r")
    await ann.expect("join", room="r", user="bob")
    listed = await ann.ask("members", room="r")
    assert sorted(member["user"] for member in listed) == ["ann", "bob"]
    await bob.close()
    await ann.expect("leave", room="r", user="bob")
    assert [member["user"] for member in await ann.ask("members", room="r")] == ["ann"]


async def test_older_messages_are_read_with_history(scene: Scene) -> None:
    server = await scene.begin()
    bob = await server.user("bob")
    for number in range(1, 6):
        await bob.ask("publish", room="r", data=number)
    ann = await scene.member("r")
    page = await ann.ask("history", room="r", before=4)
    assert [(m["seq"], m["data"]) for m in page["messages"]] == [(1, 1), (2, 2), (3, 3)]
    assert page["more"] is False


async def test_who_leaves_hears_no_more(scene: Scene) -> None:
    server = await scene.begin()
    ann = await scene.member("r")
    bob, _ = await server.member("bob", "r")
    ann.do("leave", room="r")
    await bob.expect("leave", user="ann")
    await bob.ask("publish", room="r", data="unheard")
    await bob.ask("publish", room="s", data="heard")
    await ann.join("s", history=1)
    assert await ann.heard("s", 1) == ["heard"]
    assert ann.data("r") == []


async def test_a_personal_room_is_joined_like_any_other(scene: Scene) -> None:
    server = await scene.begin()
    bob = await server.user("bob")
    await bob.ask("publish", room="@ann", data="before")
    ann = await scene.client()
    await ann.join("@ann", history=5)
    await bob.ask("publish", room="@ann", data="after")
    assert await ann.heard("@ann", 2) == ["before", "after"]


async def test_who_is_kicked_is_told_and_stays_away(scene: Scene) -> None:
    server = await scene.begin()
    ann = await scene.member("r")
    await ann.join("other")
    await server.container.control().give(Kick(RoomId("r"), UserId("ann"), "be nice"))
    await ann.expect("removed", room="r", code="kicked")
    await scene.cut_off(ann)
    await scene.back(ann)
    await ann.expect("recovered", room="other")
    await ann.publish("r", "from outside")
    await ann.publish("other", "from inside", ref="q")
    assert await ann.heard("other", 1) == ["from inside"]
    assert ann.data("r") == []
    assert len(ann.seen("joined", room="r")) == 1


async def test_who_is_sent_away_does_not_come_back(scene: Scene) -> None:
    server = await scene.begin()
    ann = await scene.member("r")
    await server.container.control().give(SendAway(UserId("ann"), "enough"))
    closed = await ann.expect("state", state="closed")
    assert (closed["code"], closed["reason"]) == (4003, "enough")
    ann.do("publish", room="r", data=1, ref="late")
    assert (await ann.expect("failed", ref="late"))["code"] == "closed"
    assert server.metric("sessions_opened_total") == 1


async def test_a_refused_join_is_told(scene: Scene) -> None:
    await scene.begin()
    ann = await scene.client()
    ann.do("join", room="@bob")
    assert (await ann.expect("removed", room="@bob"))["code"] == "not_granted"


async def test_a_frame_over_the_limit_is_not_sent(scene: Scene) -> None:
    server = await scene.begin(limits={"frame_bytes": 2000, "outbox_bytes": 100_000})
    ann = await scene.member("r")
    ann.do("publish", room="r", data="é" * 1000, ref="large")
    assert (await ann.expect("failed", ref="large"))["code"] == "message_too_large"
    assert (await ann.publish("r", "é" * 900))["seq"] == 1
    assert server.metric("messages_published_total") == 1
    assert not ann.seen("state", state="offline")


async def test_a_refused_publish_fails_and_is_not_repeated(scene: Scene) -> None:
    await scene.begin(rooms=[{"match": "in:*", "publish": "members"}])
    ann = await scene.client()
    ann.do("publish", room="in:r", data=1, ref="outside")
    assert (await ann.expect("failed", ref="outside"))["code"] == "not_joined"


async def test_a_publish_behind_a_join_waits_for_it(scene: Scene) -> None:
    await scene.begin(rooms=[{"match": "in:*", "publish": "members"}])
    ann = await scene.client()
    ann.do("join", room="in:r")
    ann.do("publish", room="in:r", data=1, ref="inside")
    assert (await ann.expect("published", ref="inside"))["position"]["seq"] == 1


async def test_more_than_the_rate_allows_arrives_all_the_same(scene: Scene) -> None:
    server = await scene.begin(limits={"messages_per_second": 100, "messages_burst": 20})
    ann = await scene.member("r")
    for number in range(60):
        ann.do("publish", room="r", data=number, ref=f"{number}")
    assert await ann.heard("r", 60) == list(range(60))
    assert server.metric("disconnects_total") == 0


async def test_a_resync_with_other_messages_is_told_in_its_place(scene: Scene) -> None:
    server = await scene.begin()
    ann = await scene.member("r")
    bob = await server.user("bob")
    for number in (1, 2, 3):
        await bob.ask("publish", room="r", data=number)
    await ann.heard("r", 3)
    fall_back(server, "r", top=2)
    await bob.ask("publish", room="r", data="another 3")
    server.container.hub().interrupted(RoomId("r"))
    gap = await ann.expect("gap", room="r")
    assert (gap["outcome"], gap["valid_to"]) == ("rewound", 2)
    await bob.ask("publish", room="r", data=4)
    assert await ann.heard("r", 5) == [1, 2, 3, "another 3", 4]
    assert ann.events.index(gap) < ann.events.index(ann.seen("message")[3])
    server.log.errors.clear()


async def test_a_log_that_is_lost_is_told(scene: Scene) -> None:
    server = await scene.begin()
    ann = await scene.member("r")
    await ann.publish("r", "old")
    server.container.broker().forget(RoomId("r"))
    assert (await ann.expect("gap", room="r"))["outcome"] == "reset"
    assert (await ann.publish("r", "new", ref="q"))["seq"] == 1
    assert await ann.heard("r", 2) == ["old", "new"]


async def test_what_cannot_be_kept_up_with_is_skipped_in_a_conflating_room(scene: Scene) -> None:
    server = await scene.begin(
        rooms=[{"match": "metrics", "conflate": True, "history_size": 1}],
        limits={"messages_per_second": 0},
    )
    server.narrow()
    ann = await scene.member("metrics")
    bob = await server.user("bob")
    await bob.ask("publish", room="metrics", data="first")
    await ann.expect("message", data="first")
    scene.proxy.hold_replies()
    while not server.metric("conflated_total"):
        await bob.ask("publish", room="metrics", data="x" * 60_000)
    last = (await bob.ask("publish", room="metrics", data="last"))["seq"]
    scene.proxy.heal()
    await ann.expect("message", data="last", seq=last)
    shown = ann.seen("message")
    assert len(shown) < last
    for before, after in pairwise(shown):
        assert after["seq"] == before["seq"] + 1 + after.get("skipped", 0)
    assert not ann.seen("state", state="offline")


async def test_ephemeral_messages_reach_who_is_there(scene: Scene) -> None:
    server = await scene.begin()
    ann = await scene.member("r")
    bob, _ = await server.member("bob", "r")
    ann.do("publish", room="r", data="typing", ref="e", ephemeral=True)
    await ann.expect("published", ref="e")
    await bob.expect("message", data="typing", ephemeral=True)
    await bob.ask("publish", room="r", data="me too", ephemeral=True)
    await ann.expect("message", room="r", data="me too")


async def test_closing_is_a_goodbye(scene: Scene) -> None:
    server = await scene.begin()
    ann = await scene.member("r")
    bob, _ = await server.member("bob", "r")
    ann.do("close")
    await bob.expect("leave", user="ann")  # at once, and not after a grace
    assert (await ann.expect("state", state="closed")).get("code", 1000) == 1000


async def test_many_rooms_are_joined_and_come_back(scene: Scene) -> None:
    """More than the server takes commands at once."""
    server = await scene.begin(limits={"commands_per_second": 200, "commands_burst": 20})
    ann = await scene.client()
    names = [f"r{number}" for number in range(100)]
    for name in names:
        ann.do("join", room=name)
    for name in names:
        await ann.expect("joined", room=name)
    scene.proxy.drop()
    await ann.expect("state", state="offline")
    for name in names:
        await ann.expect("recovered", room=name)
    assert server.metric("disconnects_total", "4104") == 0
