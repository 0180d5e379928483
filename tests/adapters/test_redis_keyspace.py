"""Names in Redis: no room, user or key can be taken for another one."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from redis.crc import key_slot

from adapters.redis.keyspace import Keyspace, RoomKeys
from domain.identifiers import RoomId

SPACE = Keyspace()
# Whatever a name might hold one day: what is allowed in names now, and everything else.
HOSTILE = st.sampled_from(
    ["a", "a:meta", "a:log", "a:key:x", "{a}", "}a", "a}", "{", "}", "{}", "*", "a b", "A", "á"]
)
NAMES = HOSTILE | st.text("ab:.{}-@~* ", max_size=6)


def names(keys: RoomKeys) -> list[str]:
    return [keys.meta, keys.log, keys.feed, keys.of("users"), keys.publish_key("ann", "k")]


@given(NAMES, NAMES)
def test_rooms_share_no_name(one: str, other: str) -> None:
    assume(one != other)
    mine, theirs = SPACE.room(RoomId(one)), SPACE.room(RoomId(other))
    assert not set(names(mine)) & set(names(theirs))
    assert mine.stem != theirs.stem


@given(NAMES)
def test_the_names_of_a_room_differ_and_lie_in_one_slot(room: str) -> None:
    found = names(SPACE.room(RoomId(room)))
    assert len(set(found)) == len(found)
    assert len({key_slot(name.encode()) for name in found}) == 1


@given(NAMES, NAMES, NAMES, NAMES)
def test_keys_of_different_publishers_share_no_name(a: str, b: str, c: str, d: str) -> None:
    assume((a, b) != (c, d))
    keys = SPACE.room(RoomId("chat"))
    assert keys.publish_key(a, b) != keys.publish_key(c, d)


@given(NAMES)
def test_no_name_shows_in_redis(room: str) -> None:
    """Rooms are named by people; what stands in Redis is ours and of a fixed length."""
    stem = SPACE.room(RoomId(room)).stem
    assert len(stem) == len("hubbub:{}:") + 32
    assert set(stem[8:-2]) <= set("0123456789abcdef")


def test_a_room_has_the_same_names_everywhere() -> None:
    assert SPACE.room(RoomId("chat")) == Keyspace().room(RoomId("chat"))
    assert SPACE.room(RoomId("chat")).meta == "hubbub:{c54efd770e4dd86d29eb355c8490db5a}:meta"


@pytest.mark.parametrize("prefix", ["a{b", "a}b", "{}"])
def test_a_prefix_does_not_take_over_the_slot(prefix: str) -> None:
    with pytest.raises(ValueError, match="prefix"):
        Keyspace(prefix)


def test_prefixes_keep_installations_apart() -> None:
    one, other = Keyspace("one"), Keyspace("other")
    assert not set(names(one.room(RoomId("a")))) & set(names(other.room(RoomId("a"))))
    assert one.term != other.term
