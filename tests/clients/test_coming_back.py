"""What both clients do when the connection is lost: nothing missing, nothing twice, or told."""

import itertools
import random
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from domain.identifiers import RoomId
from tests.clients.conftest import Scene, fall_back
from tests.clients.driving import Driver
from tests.peer import Peer, until
from tests.running_server import RunningServer
from tests.tokens import JWT, token

# Lost and found


async def test_what_was_missed_comes_after_the_return(scene: Scene) -> None:
    server = await scene.begin()
    ann = await scene.member("r")
    await ann.publish("r", 1)
    bob = await server.user("bob")
    await scene.cut_off(ann)
    for number in (2, 3):
        await bob.ask("publish", room="r", data=number)
    await scene.back(ann)
    assert (await ann.expect("recovered", room="r"))["count"] == 2
    await bob.ask("publish", room="r", data=4)
    assert await ann.heard("r", 4) == [1, 2, 3, 4]
    assert not ann.seen("gap")


async def test_more_than_one_page_is_recovered(scene: Scene) -> None:
    server = await scene.begin(
        rooms=[{"match": "r", "history_size": 1000}], limits={"messages_per_second": 0}
    )
    ann = await scene.member("r")
    bob = await server.user("bob")
    await scene.cut_off(ann)
    for number in range(250):
        await bob.ask("publish", room="r", data=number)
    await scene.back(ann)
    assert await ann.heard("r", 250) == list(range(250))
    assert not ann.seen("gap")


async def test_a_personal_room_is_recovered_too(scene: Scene) -> None:
    server = await scene.begin()
    bob = await server.user("bob")
    ann = await scene.client()
    await ann.join("@ann")
    await bob.ask("publish", room="@ann", data=1)
    await ann.heard("@ann", 1)
    await scene.cut_off(ann)
    for number in (2, 3):
        await bob.ask("publish", room="@ann", data=number)
    await scene.back(ann)
    await bob.ask("publish", room="@ann", data=4)
    assert await ann.heard("@ann", 4) == [1, 2, 3, 4]


async def test_what_is_not_kept_any_more_is_told_as_a_gap(scene: Scene) -> None:
    server = await scene.begin(rooms=[{"match": "short", "history_size": 5}])
    ann = await scene.member("short")
    await ann.publish("short", "before")
    bob = await server.user("bob")
    await scene.cut_off(ann)
    for number in range(2, 21):
        await bob.ask("publish", room="short", data=number)
    await scene.back(ann)
    gap = await ann.expect("gap", room="short")
    assert (gap["outcome"], gap["first"]) == ("gap", 16)
    assert await ann.heard("short", 6) == ["before", 16, 17, 18, 19, 20]
    assert ann.events.index(gap) < ann.events.index(ann.seen("message")[1])


async def test_messages_that_the_server_lost_are_withdrawn(scene: Scene) -> None:
    server = await scene.begin()
    ann = await scene.member("r")
    bob, _ = await server.member("bob", "s")
    for number in range(1, 6):
        await bob.ask("publish", room="r", data=number)
    await ann.heard("r", 5)
    await scene.cut_off(ann)
    fall_back(server, "r", top=3)
    await bob.ask("publish", room="r", data="another 4")
    await scene.back(ann)
    gap = await ann.expect("gap", room="r")
    assert (gap["outcome"], gap["valid_to"]) == ("rewound", 3)
    await bob.ask("publish", room="r", data="another 5")
    assert await ann.heard("r", 7) == [1, 2, 3, 4, 5, "another 4", "another 5"]


async def test_another_log_is_told_as_a_reset(scene: Scene) -> None:
    server = await scene.begin()
    ann = await scene.client()
    await ann.join("r", history=2)
    bob = await server.user("bob")
    await bob.ask("publish", room="r", data="old")
    await ann.heard("r", 1)
    await scene.cut_off(ann)
    server.container.broker().forget(RoomId("r"))
    for number in (1, 2, 3):
        await bob.ask("publish", room="r", data=number)
    await scene.back(ann)
    assert (await ann.expect("gap", room="r"))["outcome"] == "reset"
    assert (await ann.publish("r", 4))["seq"] == 4
    assert await ann.heard("r", 4) == ["old", 2, 3, 4]


async def test_whoever_left_meanwhile_is_no_member_any_more(scene: Scene) -> None:
    server = await scene.begin()
    bob, _ = await server.member("bob", "r")
    ann = await scene.member("r")
    await scene.cut_off(ann)
    await bob.close()
    await server.member("cleo", "r")
    await scene.back(ann)
    await ann.expect("recovered", room="r")
    listed = await ann.ask("members", room="r")
    assert sorted(member["user"] for member in listed) == ["ann", "cleo"]


# What is published meanwhile


async def test_what_is_published_offline_goes_out_after_the_return(scene: Scene) -> None:
    server = await scene.begin()
    bob, _ = await server.member("bob", "r")
    ann = await scene.member("r")
    await bob.expect("join", user="ann")
    await scene.cut_off(ann)
    for number in (1, 2, 3):
        ann.do("publish", room="r", data=number, ref=f"{number}")
    ann.do("publish", room="r", data="now or never", ref="e", ephemeral=True)
    await ann.expect("published", ref="e")
    await scene.back(ann)
    for number in (1, 2, 3):
        published = await ann.expect("published", ref=f"{number}")
        assert published["position"]["seq"] == number
        await bob.expect("message", data=number)
    assert await ann.heard("r", 3) == [1, 2, 3]
    assert await bob.is_quiet()


async def test_a_message_whose_ack_was_lost_happens_once(scene: Scene) -> None:
    server = await scene.begin()
    bob, _ = await server.member("bob", "r")
    ann = await scene.member("r")
    await bob.expect("join", user="ann")
    scene.proxy.hold_replies()
    ann.do("publish", room="r", data="once", ref="p")
    first = await bob.expect("message", data="once")
    scene.proxy.drop()
    scene.proxy.heal()
    published = await ann.expect("published", ref="p")
    assert (published["position"]["seq"], published["duplicate"]) == (first["seq"], True)
    assert await ann.heard("r", 1) == ["once"]
    assert await bob.is_quiet()


async def test_what_may_be_in_a_log_that_is_gone_is_not_repeated(scene: Scene) -> None:
    server = await scene.begin()
    bob, _ = await server.member("bob", "r")
    ann = await scene.member("r")
    await bob.expect("join", user="ann")
    scene.proxy.hold_replies()
    ann.do("publish", room="r", data="perhaps", ref="p")
    await bob.expect("message", data="perhaps")
    scene.proxy.drop()
    server.container.broker().forget(RoomId("r"))
    await bob.expect("resync")
    scene.proxy.heal()
    assert (await ann.expect("failed", ref="p"))["code"] == "unknown"
    assert await bob.is_quiet()


def _published(server: RunningServer, count: int) -> bool:
    return server.metric("messages_published_total") >= count


def _passed_on(scene: Scene, chunks: int) -> bool:
    return scene.proxy.chunks > chunks


@pytest.mark.timeout(120)
async def test_a_thousand_messages_through_twenty_cuts(scene: Scene) -> None:
    """All of them once, in order, here and at somebody who was there all the time."""
    cuts, batch = 20, 50
    server = await scene.begin(
        rooms=[{"match": "r", "history_size": 2000}], limits={"messages_per_second": 0}
    )
    bob, _ = await server.member("bob", "r")
    ann = await scene.member("r")
    await bob.expect("join", user="ann")
    for cut in range(cuts):
        done = cut * batch + random.randrange(1, batch)
        chunks = scene.proxy.chunks
        if cut % 3 == 0:
            scene.proxy.hold_replies()  # it happens, and the acks are lost
        elif cut % 3 == 1:
            scene.proxy.hold_requests()  # it does not happen
        for number in range(cut * batch, (cut + 1) * batch):
            ann.do("publish", room="r", data=number, ref=f"{number}")
        if cut % 3 == 0:
            await until(partial(_published, server, done))
        elif cut % 3 == 1:
            await until(partial(_passed_on, scene, chunks))
        else:
            await ann.heard("r", done)
        scene.proxy.drop()
        scene.proxy.heal()
        await ann.expect("state", state="offline")
        # It publishes into rooms it is in, so a reply to its join that is held back holds it back.
        await ann.expect("recovered", room="r")
    everything = list(range(cuts * batch))
    for number in everything:
        await ann.expect("published", ref=f"{number}")
    assert [(await bob.expect("message"))["data"] for _ in everything] == everything
    assert await ann.heard("r", len(everything)) == everything
    assert [event["seq"] for event in ann.seen("message")] == [n + 1 for n in everything]
    assert await bob.is_quiet()
    assert not ann.seen("gap")
    assert len(ann.seen("published")) == len(everything)
    assert len(ann.seen("state", state="offline")) >= cuts


# Servers that go


async def test_a_server_that_stops_sends_its_clients_to_the_next_one(scene: Scene) -> None:
    first = await scene.begin()
    ann = await scene.member("r")
    bob, _ = await first.member("bob", "r")
    await ann.expect("join", user="bob")
    scene.proxy.refuse()
    first.begin_to_stop()
    await bob.ending()
    offline = await ann.expect("state", state="offline")
    assert (offline["code"], offline["reason"]) == (4200, "restarting")
    assert await first.ended() == 0
    second = await scene.begin()
    await scene.back(ann)
    assert (await ann.expect("gap", room="r"))["outcome"] == "reset"
    await ann.publish("r", "here again")
    assert await ann.heard("r", 1) == ["here again"]
    assert second.metric("sessions") == 1


async def test_a_server_that_dies_and_is_started_again(scene: Scene) -> None:
    await scene.begin()
    ann = await scene.member("r")
    await ann.publish("r", "old")
    await scene.cut_off(ann)
    ann.do("publish", room="r", data="meanwhile", ref="m")
    await scene.begin()
    await scene.back(ann)
    assert (await ann.expect("gap", room="r"))["outcome"] == "reset"
    assert (await ann.expect("published", ref="m"))["position"]["seq"] == 1
    assert await ann.heard("r", 2) == ["old", "meanwhile"]


async def test_a_server_that_is_full_is_tried_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("entrypoints.ws.gate.RETRY_AFTER", 1)
    server = await scene.begin(limits={"connections": 1})
    bob = await server.user("bob")
    ann = await scene.start()
    ann.do("connect", url=scene.url("ann"), options={"backoff": [0.02, 0.1]})
    await ann.expect("state", state="offline")
    assert ann.seen("state", state="connected") == []
    await bob.close()
    await ann.expect("state", state="connected")


async def test_a_dead_link_is_noticed(scene: Scene) -> None:
    """Nothing is closed, nothing is refused, and nothing comes."""
    server = await scene.begin(ping_interval=0.5)
    ann = await scene.member("r", grace=1.0)
    await ann.publish("r", 1)
    bob = await server.user("bob")
    scene.proxy.hold_requests()
    scene.proxy.hold_replies()
    await bob.ask("publish", room="r", data=2)
    await ann.expect("state", state="offline")
    scene.proxy.heal()
    assert await ann.heard("r", 2) == [1, 2]
    await bob.ask("publish", room="r", data=3)
    assert await ann.heard("r", 3) == [1, 2, 3]


# Tokens


def tokens(*lives: float) -> Callable[[], str]:
    """Tokens of `ann` that last so many seconds, the last kind again and again."""
    rest: Iterator[float] = itertools.chain(lives, itertools.repeat(lives[-1]))
    return lambda: token("ann", next(rest))


async def guest(scene: Scene, *lives: float) -> tuple[RunningServer, Driver, Peer]:
    """A server that asks for tokens, a client whose tokens last so long, and somebody else."""
    server = await scene.begin(**JWT)
    ann = await scene.start(tokens(*lives))
    await ann.connect(scene.url())
    await ann.join("r")
    bob = await server.connect(f"/v1/ws?token={token('bob')}")
    await bob.expect("connected")
    await bob.expect("joined", room="@bob")
    return server, ann, bob


async def test_a_token_is_renewed_before_it_runs_out(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("application.session.EXPIRY_LEEWAY", 2.0)
    server, ann, bob = await guest(scene, 1.5, 600)
    late = await server.connect(f"/v1/ws?token={token('late', 1.5)}")
    await late.expect("connected")
    await late.expect("joined")
    assert (await late.closed_after_farewell())[0] == 4101  # so Ann's first one is over as well
    await bob.ask("publish", room="r", data="still here")
    assert await ann.heard("r", 1) == ["still here"]
    assert len(ann.seen("need_token")) == 2
    assert not ann.seen("state", state="offline")


async def test_who_slept_past_the_end_of_the_token_comes_back(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("application.session.EXPIRY_LEEWAY", 0.0)
    server = await scene.begin(**JWT)
    first = iter([1.5])
    asleep = True

    def fetch() -> str | None:
        life = next(first, None if asleep else 600)
        return None if life is None else token("ann", life)

    ann = await scene.start(fetch)
    await ann.connect(scene.url())
    await ann.join("r")
    ann.stop()
    try:
        await server.lost(0)
        bob = await server.connect(f"/v1/ws?token={token('bob')}")
        await bob.expect("connected")
        await bob.expect("joined")
        await bob.ask("publish", room="r", data="while you slept")
    finally:
        asleep = False
        ann.go_on()
    for event in ann.seen("need_token")[1:]:  # asked on a machine too slow to fall asleep in time
        ann.do("token", ref=event["ref"], token=token("ann"))
    await ann.expect("recovered", room="r")
    assert await ann.heard("r", 1) == ["while you slept"]
    assert not ann.seen("state", state="closed")


async def test_a_lost_connection_needs_no_other_token_while_the_old_one_lasts(
    scene: Scene,
) -> None:
    _, ann, _ = await guest(scene, 600)
    scene.proxy.drop()
    await ann.expect("recovered", room="r")
    assert len(ann.seen("need_token")) == 1


async def test_an_expired_token_is_replaced_once(scene: Scene) -> None:
    server, ann, _ = await guest(scene, -60, 600)
    assert len(ann.seen("need_token")) == 2
    assert server.metric("sessions_opened_total") == 2  # Ann's, and Bob's


async def test_expired_tokens_again_and_again_are_the_end(scene: Scene) -> None:
    await scene.begin(**JWT)
    ann = await scene.start(tokens(-60))
    ann.do("connect", url=scene.url(), options={"backoff": [0.02, 0.1]})
    closed = await ann.expect("state", state="closed")
    assert closed["code"] == 4001
    assert closed["reason"].startswith("token_expired")
    assert len(ann.seen("need_token")) == 2


async def test_a_token_that_is_no_good_is_the_end(scene: Scene) -> None:
    await scene.begin(**JWT)
    ann = await scene.start(lambda: "no.good.token")
    ann.do("connect", url=scene.url(), options={"backoff": [0.02, 0.1]})
    closed = await ann.expect("state", state="closed")
    assert closed["reason"].startswith("token_invalid")
    assert len(ann.seen("need_token")) == 1


async def test_a_renewed_token_that_does_not_open_a_room_any_more(scene: Scene) -> None:
    server = await scene.begin(**JWT)
    all_of_it = ["join", "publish", "history", "members"]
    grants = iter([{"*": all_of_it}, {"kept": all_of_it}])
    lives = iter([1.0, 600.0])
    ann = await scene.start(lambda: token("ann", next(lives), rooms=next(grants)))
    await ann.connect(scene.url())
    await ann.join("kept")
    await ann.join("gone")
    assert (await ann.expect("removed", room="gone"))["code"] == "not_granted"
    assert (await ann.publish("kept", "still in"))["seq"] == 1
    await until(lambda: server.sessions() == 1)
