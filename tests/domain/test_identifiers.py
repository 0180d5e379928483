"""Names are refused, never repaired."""

import string

import pytest

from domain.errors import BadName
from domain.identifiers import (
    MAX_NAME,
    RoomId,
    UserId,
    owner,
    personal_room,
    room_id,
    user_id,
)

GOOD = ["a", "A", "0", "chat:1", "a.b", "a-b", "a_b", "~a", "ann@example.com", ".", "a" * MAX_NAME]
BAD = {
    "nothing": "",
    "space": "a b",
    "NUL": "a\0",
    "NUL alone": "\0",
    "trailing newline": "a\n",
    "newline within": "a\nb",
    "carriage return": "a\r",
    "slash": "a/b",
    "percent": "%2f",
    "backslash": "a\\b",
    "star": "*",
    "braces": "{a}",
    "quote": 'a"',
    "umlaut": "ä",
    "Cyrillic а": "а",  # noqa: RUF001
    "full-width A": "Ａ",  # noqa: RUF001
    "Arabic digit": "٣",
    "Kelvin sign": "\u212a",
    "long s": "\u017f",
    "zero-width space": "a\u200b",
    "right-to-left override": "a\u202e",
    "combining accent": "e\u0301",
    "lone surrogate": "\ud800",
    "one too long": "a" * (MAX_NAME + 1),
}


@pytest.mark.parametrize("text", GOOD)
def test_good_names_are_kept_as_they_are(text: str) -> None:
    assert user_id(text) == text
    assert room_id(text) == text


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_bad_names_are_refused(text: str) -> None:
    for check in (user_id, room_id):
        with pytest.raises(BadName, match="name is 1 to 128 of"):
            check(text)
    with pytest.raises(BadName):
        room_id(f"@{text}")


def test_every_other_ascii_character_is_refused() -> None:
    allowed = set(string.ascii_letters + string.digits + "_.:@~-")
    for character in map(chr, range(128)):
        if character in allowed:
            assert user_id(f"a{character}") == f"a{character}"
        else:
            with pytest.raises(BadName):
                user_id(f"a{character}")


def test_case_is_kept_and_counts() -> None:
    assert room_id("Chat") != room_id("chat")


def test_a_personal_room_belongs_to_the_user_behind_the_at_sign() -> None:
    assert personal_room(user_id("ann")) == room_id("@ann")
    assert owner(room_id("@ann")) == "ann"


def test_other_rooms_belong_to_nobody() -> None:
    assert owner(room_id("ann")) is None
    assert owner(room_id("ann@home")) is None


def test_a_personal_room_must_hold_a_user_name() -> None:
    with pytest.raises(BadName):
        room_id("@")


def test_a_user_whose_name_begins_with_an_at_sign_has_a_room_of_their_own() -> None:
    user = user_id("@x")
    assert personal_room(user) == room_id("@@x")
    assert owner(room_id("@@x")) == user
    assert owner(room_id("@x")) == "x"


def test_the_longest_user_has_a_personal_room_and_no_longer_one_exists() -> None:
    longest = UserId("a" * MAX_NAME)
    assert room_id(personal_room(longest)) == RoomId("@" + longest)
    with pytest.raises(BadName):
        room_id("@" + "a" * (MAX_NAME + 1))
    with pytest.raises(BadName):
        user_id("@" + longest)
