"""Which rooms there are."""

import pytest

from application.list_rooms import PAGE, RoomPage
from domain.grants import ALL_GRANTS, Backend, Grants
from domain.identifiers import UserId
from domain.options import PresenceMode, RoomOptions
from tests.application.conftest import House

APP = Backend("app", ALL_GRANTS)


async def house_of(*rooms: str) -> House:
    house = House(("quiet:*", RoomOptions(presence=PresenceMode.OFF)))
    for room in rooms:
        await house.member(f"in-{room}", room)
    return house


def names(page: RoomPage) -> list[str]:
    return [found.room for found in page.rooms]


async def test_rooms_are_listed_by_name_with_their_users() -> None:
    house = await house_of("b", "a", "quiet:c")
    await house.member("bob", "a")
    await house.member("bob", "a")  # two tabs are one user
    page = await house.rooms(APP)
    assert page == ([("a", 2), ("b", 1), ("quiet:c", None)], False)


async def test_a_room_that_nobody_is_in_is_none() -> None:
    house = await house_of("a")
    house.client("ann").say("hi", "b")
    ann = await house.member("ann", "c")
    ann.leave("c")
    assert names(await house.rooms(APP)) == ["a"]
    (member,) = house.hub.sessions_of(UserId("in-a"))
    member.lost(1000)
    assert (await house.rooms(APP)).rooms == []


async def test_pages_follow_one_another() -> None:
    every = [f"room{number:03}" for number in range(PAGE + 50)]
    house = await house_of(*reversed(every))
    read: list[str] = []
    more = True
    while more:
        page = await house.rooms(APP, after=read[-1] if read else "")
        assert len(page.rooms) <= PAGE
        read += names(page)
        more = page.more
    assert read == every


@pytest.mark.parametrize(("asked", "given"), [(-5, 1), (0, 1), (2, 2), (10_000, 4)])
async def test_the_limit_is_kept_within_bounds(asked: int, given: int) -> None:
    house = await house_of("a", "b", "c", "d")
    page = await house.rooms(APP, limit=asked)
    assert (len(page.rooms), page.more) == (given, given < 4)


async def test_a_prefix_is_where_names_begin() -> None:
    house = await house_of("chat:1", "chat:2", "news", "a-chat:3")
    assert names(await house.rooms(APP, "chat:")) == ["chat:1", "chat:2"]
    assert names(await house.rooms(APP, "chat:", "chat:1")) == ["chat:2"]
    assert names(await house.rooms(APP, "nothing")) == []


async def test_what_the_caller_may_list_comes_in_full_pages() -> None:
    """However many others there are in between."""
    house = await house_of(
        *(f"a{n:03}" for n in range(150)), "b:1", "b:2", "c", "cc", "b:22", "d:x"
    )
    caller = Backend("app", Grants({"b:*": ["members"], "b:2*": ["members"], "c": ["members"]}))
    assert names(await house.rooms(caller, limit=3)) == ["b:1", "b:2", "b:22"]
    assert await house.rooms(caller, after="b:22") == ([("c", 1)], False)
    assert names(await house.rooms(caller, "b:2")) == ["b:2", "b:22"]
    assert names(await house.rooms(caller, "c")) == ["c"]
    assert names(await house.rooms(caller, "d")) == []


async def test_only_rooms_whose_members_the_caller_may_list() -> None:
    house = await house_of("chat", "staff")
    assert names(await house.rooms(Backend("app", Grants({"chat": ["members"]})))) == ["chat"]
    assert names(await house.rooms(Backend("app", Grants({"*": ["publish"]})))) == []


async def test_personal_rooms_are_never_listed() -> None:
    house = House()
    ann = house.client("ann")
    await ann.join("@ann")
    for caller in (APP, ann.session.identity):
        assert (await house.rooms(caller)).rooms == []
