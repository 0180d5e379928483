"""Which options are in force for a room."""

import pytest

from application.describe_room import DescribeRoom
from domain.errors import BadName, NotGranted
from domain.grants import ALL_GRANTS, Backend, Grants, Identity
from domain.identifiers import UserId
from domain.options import PresenceMode, RoomCatalog, RoomOptions

CHAT = RoomOptions(history_size=7)
DESCRIBE = DescribeRoom(RoomCatalog([("chat:*", CHAT)]))
APP = Backend("app", ALL_GRANTS)


def test_the_first_rule_that_matches_or_the_defaults() -> None:
    assert DESCRIBE(APP, "chat:1") == CHAT
    assert DESCRIBE(APP, "news") == RoomOptions()
    assert DESCRIBE(APP, "@ann").presence is PresenceMode.OFF


def test_any_grant_will_do_and_none_will_not() -> None:
    for action in ("join", "publish", "history", "members", "manage"):
        assert DESCRIBE(Backend("app", Grants({"chat:1": [action]})), "chat:1") == CHAT
    with pytest.raises(NotGranted):
        DESCRIBE(Backend("app", Grants({"chat:1": ["join"]})), "chat:2")


def test_of_a_personal_room_its_owner_is_told() -> None:
    nobody = Grants({})
    assert DESCRIBE(Identity(UserId("ann"), nobody), "@ann")
    for other in (Identity(UserId("bob"), nobody), Backend("ann", nobody)):
        with pytest.raises(NotGranted):
            DESCRIBE(other, "@ann")


def test_a_bad_name_is_refused() -> None:
    with pytest.raises(BadName):
        DESCRIBE(APP, "a b")
