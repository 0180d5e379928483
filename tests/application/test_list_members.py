"""Who is in a room."""

import pytest

from application.list_members import PAGE, MemberPage
from domain.errors import BadName, NotGranted
from domain.grants import DEFAULT_GRANTS, Grants, Identity
from domain.identifiers import RoomId, UserId
from domain.options import PresenceMode, RoomOptions
from tests.application.conftest import House

ANN = Identity(UserId("ann"), DEFAULT_GRANTS)


def names(page: MemberPage) -> list[str]:
    assert page.members is not None
    return [member.user for member in page.members]


async def house_of(count: int, options: RoomOptions | None = None) -> House:
    house = House(("*", options or RoomOptions()))
    for number in range(count):
        await house.member(f"user{number:03}")
    return house


async def test_members_are_listed_by_name_with_count_and_version() -> None:
    page = await (await house_of(3)).members(ANN, "chat")
    assert names(page) == ["user000", "user001", "user002"]
    assert (page.count, page.version, page.more) == (3, 3, False)


async def test_pages_follow_one_another() -> None:
    house = await house_of(PAGE + 50)
    read: list[str] = []
    more = True
    while more:
        page = await house.members(ANN, "chat", read[-1] if read else None)
        read += names(page)
        more = page.more
        assert len(names(page)) <= PAGE
    assert read == [f"user{number:03}" for number in range(PAGE + 50)]


@pytest.mark.parametrize(("asked", "given"), [(-5, 1), (0, 1), (2, 2), (10_000, PAGE)])
async def test_a_limit_is_kept_within_bounds(asked: int, given: int) -> None:
    page = await (await house_of(PAGE + 1)).members(ANN, "chat", limit=asked)
    assert (len(names(page)), page.more) == (given, True)


async def test_who_comes_after_the_last_one_is_nobody() -> None:
    page = await (await house_of(3)).members(ANN, "chat", after="user002")
    assert (names(page), page.count, page.more) == ([], 3, False)


async def test_an_empty_room_has_no_members() -> None:
    page = await House().members(ANN, "nowhere")
    assert (names(page), page.count, page.more) == ([], 0, False)


async def test_a_room_that_counts_tells_the_count() -> None:
    page = await (await house_of(3, RoomOptions(presence=PresenceMode.COUNT))).members(ANN, "chat")
    assert (page.members, page.count, page.version) == (None, 3, 3)


@pytest.mark.parametrize("room", ["chat", "@ann"])
async def test_a_room_without_presence_tells_nothing(room: str) -> None:
    house = await house_of(3, RoomOptions(presence=PresenceMode.OFF))
    page = await house.members(ANN, room)
    assert page == MemberPage(RoomId(room), None, None, None, more=False)


async def test_listing_takes_a_grant() -> None:
    joiner = Identity(UserId("ann"), Grants({"*": ["join", "publish", "history"]}))
    with pytest.raises(NotGranted):
        await House().members(joiner, "chat")


async def test_a_personal_room_of_somebody_else_is_not_listed() -> None:
    with pytest.raises(NotGranted):
        await House().members(Identity(UserId("bob"), Grants({"@*": ["members"]})), "@ann")


async def test_a_bad_name_is_refused() -> None:
    with pytest.raises(BadName):
        await House().members(ANN, "a b")
