"""Publishing: who may, how often, and what comes of it."""

import pytest

from application.ports.broadcasting import Published
from application.session import SessionLimits
from domain.errors import BadName, KeyConflict, NotGranted, NotJoined, RateLimited, Refusal
from domain.grants import DEFAULT_GRANTS, Grants
from domain.identifiers import RoomId
from domain.options import PublishPolicy, RoomOptions
from domain.timeline import PageRequest
from tests.application.conftest import Client, House, pass_time, turn


def seq(outcome: object) -> int:
    assert isinstance(outcome, Published)
    assert outcome.position is not None
    return outcome.position.seq


def refusal(client: Client, room: str = "chat") -> type[Refusal] | None:
    try:
        client.say("hi", room)
    except Refusal as refused:
        return type(refused)
    return None


async def logged(house: House, room: str = "chat") -> list[bytes]:
    page = await house.broker.page(RoomId(room), PageRequest(), RoomOptions().keep)
    return [message.data for message in page.messages]


async def test_a_publish_needs_no_membership_and_creates_the_room() -> None:
    house = House()
    assert seq(house.client("ann").say("first")) == 1
    assert await logged(house) == [b'"first"']


async def test_a_message_says_who_sent_it() -> None:
    house = House()
    bob = await house.member("bob")
    house.client("ann").say("hi")
    await turn()
    assert [frame["from"] for frame in bob.frames] == ["ann"]


async def test_drafts_of_one_session_are_numbered_in_the_order_of_the_calls() -> None:
    house = House()
    ann = house.client("ann")
    assert [seq(ann.say(number)) for number in range(10)] == list(range(1, 11))


async def test_a_key_makes_it_happen_once() -> None:
    house = House()
    bob, ann = await house.member("bob"), house.client("ann")
    first = ann.say("hi", key="k")
    second = ann.say("hi", key="k")
    await turn()
    assert isinstance(first, Published)
    assert second == first._replace(duplicate=True)
    assert bob.heard() == ["hi"]


async def test_a_key_holds_over_sessions_of_a_user_and_not_over_users() -> None:
    house = House()
    assert seq(house.client("ann").say("hi", key="k")) == 1
    assert seq(house.client("ann").say("hi", key="k")) == 1
    assert seq(house.client("bob").say("hi", key="k")) == 2
    assert isinstance(house.client("ann").say("ho", key="k"), KeyConflict)


async def test_an_ephemeral_message_has_no_place() -> None:
    house = House()
    outcome = house.client("ann").say("gone", ephemeral=True)
    assert isinstance(outcome, Published)
    assert outcome.position is None
    assert await logged(house) == []


@pytest.mark.parametrize("name", ["", "a b", "@", "x" * 129])
async def test_a_bad_name_is_refused(name: str) -> None:
    assert refusal(House().client(), name) is BadName


async def test_publishing_takes_a_grant() -> None:
    house = House()
    reader = await house.member(grants=Grants({"*": ["join"], "news": ["publish"]}))
    assert refusal(reader) is NotGranted
    assert refusal(reader, "news") is None
    assert await logged(house) == []


async def test_a_personal_room_takes_a_grant_that_says_so() -> None:
    house = House()
    assert refusal(house.client("bob", grants=DEFAULT_GRANTS), "@ann") is NotGranted
    assert refusal(house.client("bob", grants=Grants({"@a*": ["publish"]})), "@ann") is None


async def test_a_room_may_be_for_members_only() -> None:
    house = House(("*", RoomOptions(publish=PublishPolicy.MEMBERS)))
    ann = house.client("ann")
    assert refusal(ann) is NotJoined
    await ann.join()
    assert refusal(ann) is None
    ann.leave()
    assert refusal(ann) is NotJoined


async def test_a_room_may_be_for_the_backend_only() -> None:
    house = House(("*", RoomOptions(publish=PublishPolicy.BACKEND)))
    assert refusal(await house.member("ann")) is NotGranted


async def test_a_session_has_a_rate() -> None:
    house = House(limits=SessionLimits(messages_per_second=1, messages_burst=2))
    ann, bob = house.client("ann"), house.client("bob")
    assert [refusal(ann) for _ in range(3)] == [None, None, RateLimited]
    assert refusal(bob) is None
    assert len(await logged(house)) == 3


@pytest.mark.parametrize("live", [True, False])
async def test_a_room_has_a_rate_that_all_share(live: bool) -> None:
    house = House(("*", RoomOptions(rate=2.0)))
    if live:
        await house.member("cid")
    ann, bob = house.client("ann"), house.client("bob")
    assert [refusal(client) for client in (ann, bob, ann, bob)] == [None] * 4
    assert refusal(ann) is RateLimited
    assert refusal(ann, "other") is None
    await pass_time(0.5)
    assert refusal(bob) is None
    assert refusal(ann) is RateLimited


async def test_leaving_and_coming_back_does_not_fill_a_room_s_bucket() -> None:
    house = House(("*", RoomOptions(rate=1.0)))
    ann = house.client("ann")
    for _ in range(3):
        refusal(ann)
        await ann.join()
        ann.leave()
    assert refusal(ann) is RateLimited


async def test_who_waits_as_long_as_a_room_tells_is_let_through() -> None:
    house = House(("*", RoomOptions(rate=0.1)))
    ann = house.client("ann")
    ann.say("hi")
    with pytest.raises(RateLimited) as refused:
        ann.say("hi")
    wait = refused.value.retry_after
    assert wait == pytest.approx(10.0, abs=0.01)
    await pass_time(wait or 0.0)
    assert refusal(ann) is None
    assert refusal(ann) is RateLimited


async def test_a_refusal_never_calls_the_receipt() -> None:
    house = House(limits=SessionLimits(messages_per_second=1, messages_burst=1))
    receipts: list[object] = []
    ann = house.client("ann")
    house.publish(ann.session, "chat", b"1", receipts.append)
    with pytest.raises(RateLimited):
        house.publish(ann.session, "chat", b"1", receipts.append)
    assert len(receipts) == 1


async def test_publishes_are_counted() -> None:
    house = House()
    ann = house.client("ann")
    ann.say(1)
    refusal(ann, "a b")
    assert house.counted("messages_published") == 1
