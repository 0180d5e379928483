"""Publishing: who may, how often, and what comes of it."""

from typing import Any

import pytest

from adapters.memory.broker import MemoryBroker
from application.ports.broadcasting import Published, Receipt
from application.session import SessionLimits
from domain.errors import (
    BadName,
    Forbidden,
    HubbubError,
    KeyConflict,
    NotGranted,
    NotJoined,
    RateLimited,
    Refusal,
    Unavailable,
)
from domain.grants import ALL_GRANTS, DEFAULT_GRANTS, Backend, Caller, Grants, Identity
from domain.identifiers import RoomId, UserId
from domain.message import Draft
from domain.options import PresenceMode, PublishPolicy, Retention, RoomOptions
from domain.timeline import PageRequest
from tests.application.conftest import Client, House, SlowPresence, pass_time, turn


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


# Without a session

APP = Backend("app", ALL_GRANTS)
ANN = Identity(UserId("ann"), DEFAULT_GRANTS)


async def ask(
    house: House, caller: Caller = APP, data: bytes = b'"hi"', room: str = "chat", **how: Any
) -> Published | HubbubError | type[HubbubError]:
    """What comes of a request; the class of what it is refused with."""
    try:
        return await (await house.publish.ask(caller, room, data, **how))
    except HubbubError as error:
        return type(error)


async def test_a_request_is_numbered_with_the_messages_of_sessions() -> None:
    house = House()
    bob = await house.member("bob")
    assert seq(house.client("ann").say(1)) == 1
    assert seq(await ask(house, data=b"2")) == 2
    assert seq(house.client("ann").say(3)) == 3
    await turn()
    assert [(frame["from"], frame["data"]) for frame in bob.frames] == [
        ("ann", 1),
        (None, 2),
        ("ann", 3),
    ]


async def test_a_backend_speaks_for_whom_it_says_and_a_user_for_nobody_else() -> None:
    house = House()
    bob = await house.member("bob")
    assert seq(await ask(house, sender="cleo"))
    assert seq(await ask(house, ANN))
    assert await ask(house, ANN, sender="cleo") is Forbidden
    assert await ask(house, sender="c c") is BadName
    await turn()
    assert [frame["from"] for frame in bob.frames] == ["cleo", "ann"]


async def test_keys_of_backends_and_users_do_not_meet() -> None:
    house = House()
    other = Backend("other", ALL_GRANTS)
    callers = (APP, other, ANN, Identity(UserId("key:app"), DEFAULT_GRANTS))
    assert [seq(await ask(house, caller, key="k")) for caller in callers] == [1, 2, 3, 4]
    assert [seq(await ask(house, caller, key="k")) for caller in callers] == [1, 2, 3, 4]
    assert isinstance(await ask(house, data=b'"ho"', key="k"), KeyConflict)
    # By whatever way it comes: a user is one principal.
    assert seq(house.client("ann").say("hi", key="k")) == 3


async def test_an_ephemeral_request_is_delivered_and_not_kept() -> None:
    house = House()
    bob = await house.member("bob")
    outcome = await ask(house, ephemeral=True)
    assert isinstance(outcome, Published)
    assert outcome.position is None
    await turn()
    assert bob.heard() == ["hi"]
    assert await logged(house) == []


async def test_rooms_for_the_backend_are_open_to_it_and_to_nobody_else() -> None:
    house = House(("*", RoomOptions(publish=PublishPolicy.BACKEND)))
    assert seq(await ask(house)) == 1
    assert await ask(house, ANN) is NotGranted
    assert await ask(house, Backend("reader", Grants({"*": ["history"]}))) is NotGranted


MEMBERS = ("*", RoomOptions(publish=PublishPolicy.MEMBERS))


async def test_a_user_is_a_member_by_any_session() -> None:
    house = House(MEMBERS)
    assert await ask(house, ANN) is NotJoined
    ann = await house.member("ann")
    assert seq(await ask(house, ANN)) == 1
    assert await ask(house, ANN, room="other") is NotJoined
    ann.leave()
    assert await ask(house, ANN) is NotJoined
    assert seq(await ask(house)) == 2  # nobody asks a backend for that


async def test_a_user_is_a_member_by_a_session_elsewhere_and_through_the_grace() -> None:
    house = House(MEMBERS)
    who: Any = RoomId("chat"), "elsewhere", UserId("ann"), b"null"
    await house.presence.enter(*who, max_members=None, list_limit=0)
    assert seq(await ask(house, ANN)) == 1
    house.presence.leave(*who[:3], clean=False)
    assert seq(await ask(house, ANN)) == 2
    await pass_time(10.0)
    house.presence.sweep()
    assert await ask(house, ANN) is NotJoined


async def test_without_presence_only_the_sessions_here_are_known() -> None:
    options = RoomOptions(publish=PublishPolicy.MEMBERS, presence=PresenceMode.OFF)
    house = House(("*", options))
    assert await ask(house, ANN) is NotJoined
    await house.member("ann")
    assert seq(await ask(house, ANN)) == 1


async def test_who_is_not_known_to_be_a_member_is_told_to_come_back() -> None:
    presence = SlowPresence()
    house = House(MEMBERS, presence=presence)
    presence.failure = Unavailable("no presence now")
    assert await ask(house, ANN) is Unavailable
    assert await logged(house) == []


async def test_a_user_has_a_rate_and_a_backend_that_of_rooms_only() -> None:
    limits = SessionLimits(messages_per_second=1, messages_burst=2)
    house = House(("slow", RoomOptions(rate=1.0)), limits=limits)
    assert [await ask(house, ANN) for _ in range(3)][2] is RateLimited
    assert RateLimited not in [await ask(house) for _ in range(10)]
    assert [await ask(house, room="slow") for _ in range(3)][2] is RateLimited
    await pass_time(1.0)
    assert seq(await ask(house, ANN))


async def test_a_personal_room_takes_such_a_grant_of_a_backend_too() -> None:
    house = House()
    assert await ask(house, Backend("app", Grants({"*": ["publish"]})), room="@ann") is NotGranted
    assert seq(await ask(house, Backend("app", Grants({"@*": ["publish"]})), room="@ann")) == 1


async def test_a_request_that_nobody_waits_for_any_more_does_no_harm() -> None:
    house = House()
    broker = house.broker
    receipts: list[Any] = []

    class Late(MemoryBroker):
        def submit(self, draft: Draft, keep: Retention, receipt: Receipt) -> None:
            receipts.append(receipt)

    house.publish._broker = Late()
    outcome = await house.publish.ask(APP, "chat", b"1")
    outcome.cancel()
    house.publish._broker = broker
    receipts[0](Published(None, ""))
    assert outcome.cancelled()
