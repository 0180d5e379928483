"""Who may speak in a room, and when a room is too full to list."""

import pytest

from domain.errors import NotGranted, NotJoined, Refusal
from domain.grants import DEFAULT_GRANTS, OPEN_GRANTS, Backend, Caller, Grants, Identity
from domain.identifiers import RoomId, UserId
from domain.options import PresenceMode, PublishPolicy, RoomOptions
from domain.room import Room

ANN = Identity(UserId("ann"), DEFAULT_GRANTS)
APP = Backend("app", DEFAULT_GRANTS)
READING_APP = Backend("app", Grants({"*": ["history"]}))
READER = Identity(UserId("ann"), Grants({"*": ["join", "history", "members"]}))


def room(options: RoomOptions | None = None, name: str = "chat") -> Room:
    return Room(RoomId(name), options or RoomOptions())


def outcome(of: Room, caller: Caller, *, member: bool) -> type[Refusal] | None:
    try:
        of.admit(caller, member=member)
    except Refusal as refusal:
        return type(refusal)
    return None


# Publishing


@pytest.mark.parametrize(
    ("policy", "caller", "member", "expected"),
    [
        (PublishPolicy.GRANTED, ANN, True, None),
        (PublishPolicy.GRANTED, ANN, False, None),
        (PublishPolicy.GRANTED, READER, True, NotGranted),
        (PublishPolicy.MEMBERS, ANN, True, None),
        (PublishPolicy.MEMBERS, ANN, False, NotJoined),
        (PublishPolicy.MEMBERS, READER, True, NotGranted),
        (PublishPolicy.BACKEND, ANN, True, NotGranted),
        (PublishPolicy.GRANTED, APP, False, None),
        (PublishPolicy.MEMBERS, APP, False, None),
        (PublishPolicy.BACKEND, APP, False, None),
        (PublishPolicy.GRANTED, READING_APP, False, NotGranted),
        (PublishPolicy.MEMBERS, READING_APP, False, NotGranted),
        (PublishPolicy.BACKEND, READING_APP, False, NotGranted),
    ],
)
def test_who_may_publish(
    policy: PublishPolicy, caller: Caller, member: bool, expected: type[Refusal] | None
) -> None:
    assert outcome(room(RoomOptions(publish=policy)), caller, member=member) is expected


def test_publishing_to_a_personal_room_takes_a_grant_for_personal_rooms() -> None:
    personal = room(name="@bob")
    assert outcome(personal, ANN, member=False) is NotGranted
    assert outcome(personal, Identity(UserId("ann"), OPEN_GRANTS), member=False) is None
    assert outcome(room(name="@ann"), ANN, member=True) is NotGranted


# Crowds


def test_a_room_is_crowded_above_its_limit() -> None:
    hall = room(RoomOptions(presence_limit=4))
    assert not hall.crowds(4)
    assert hall.crowds(5)


def test_a_crowded_room_stays_so_until_it_is_calm() -> None:
    hall = room(RoomOptions(presence_limit=4))
    hall.crowds(5)
    assert hall.crowds(3)
    assert [hall.calms(count) for count in (5, 4, 3, 2, 0)] == [False, False, False, True, True]
    assert hall.crowds(2)
    hall.calm()
    assert not hall.crowds(2)


def test_a_calm_room_does_not_calm_again() -> None:
    assert not room(RoomOptions(presence_limit=4)).calms(0)


def test_a_room_that_only_counts_is_never_listed() -> None:
    counter = room(RoomOptions(presence=PresenceMode.COUNT))
    assert counter.crowds(1)
    assert not counter.calms(0)


@pytest.mark.parametrize("mode", PresenceMode)
def test_presence_is_kept_unless_it_is_off(mode: PresenceMode) -> None:
    assert room(RoomOptions(presence=mode)).keeps_presence is (mode is not PresenceMode.OFF)
