"""Room options: what makes sense, and which rule speaks for a room."""

from dataclasses import replace

import pytest

from domain.identifiers import RoomId
from domain.options import PresenceMode, PublishPolicy, Retention, RoomCatalog, RoomOptions

SMALL = RoomOptions(history_size=1)
LARGE = RoomOptions(history_size=1000)


def test_the_defaults() -> None:
    options = RoomOptions()
    assert options.keep == Retention(size=100, ttl=600.0)
    assert (options.presence, options.presence_limit) == (PresenceMode.LIST, 200)
    assert options.publish is PublishPolicy.GRANTED
    assert (options.max_members, options.rate, options.conflate) == (None, None, False)


def test_what_a_room_keeps_follows_its_options() -> None:
    options = RoomOptions(history_size=5, history_ttl=60.0)
    assert options.keep == Retention(5, 60.0)
    assert replace(options, history_size=6).keep == Retention(6, 60.0)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"history_size": -1}, "history_size must be 0 to 10000 messages, not -1"),
        ({"history_ttl": 0.0}, "history_ttl must be above 0 seconds, not 0.0"),
        ({"history_ttl": -1.0}, "history_ttl must be above 0"),
        ({"history_ttl": float("nan")}, "history_ttl must be above 0"),
        ({"history_ttl": float("inf")}, "history_ttl must be above 0"),
        ({"presence_limit": -1}, "presence_limit must be 0 to 500 users"),
        ({"max_members": 0}, "max_members must be 1 or more users"),
        ({"max_members": -1}, "max_members must be 1 or more users"),
        ({"rate": 0.0}, "rate must be above 0 messages a second, or left out"),
        ({"rate": -1.0}, "rate must be above 0"),
        ({"rate": float("nan")}, "rate must be above 0"),
        ({"rate": float("inf")}, "rate must be above 0"),
    ],
)
def test_nonsense_is_refused(options: dict[str, float], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        RoomOptions(**options)  # type: ignore[arg-type]


def test_the_smallest_values_that_make_sense() -> None:
    options = RoomOptions(
        history_size=0, history_ttl=0.1, presence_limit=0, max_members=1, rate=0.1
    )
    assert options.keep == Retention(0, 0.1)


def test_without_rules_every_room_has_the_defaults() -> None:
    assert RoomCatalog([]).of(RoomId("lobby")) == RoomOptions()


def test_the_first_rule_that_matches_decides() -> None:
    catalog = RoomCatalog([("chat:vip", SMALL), ("chat:*", LARGE), ("chat:x", SMALL)])
    assert catalog.of(RoomId("chat:vip")) == SMALL
    assert catalog.of(RoomId("chat:1")) == LARGE
    assert catalog.of(RoomId("chat:x")) == LARGE
    assert catalog.of(RoomId("news")) == RoomOptions()


def test_rules_are_not_merged() -> None:
    catalog = RoomCatalog([("chat:*", RoomOptions(conflate=True)), ("*", SMALL)])
    assert catalog.of(RoomId("chat:1")) == RoomOptions(conflate=True)


def test_personal_rooms_are_matched_only_by_rules_for_them() -> None:
    catalog = RoomCatalog([("*", LARGE), ("@*", SMALL)])
    assert catalog.of(RoomId("@ann")).history_size == 1
    assert RoomCatalog([("*", LARGE)]).of(RoomId("@ann")).history_size == 100


def test_personal_rooms_never_have_presence() -> None:
    with_rule = RoomCatalog([("@*", RoomOptions(presence=PresenceMode.LIST, history_size=5))])
    for catalog in (with_rule, RoomCatalog([])):
        assert catalog.of(RoomId("@ann")).presence is PresenceMode.OFF
    assert with_rule.of(RoomId("@ann")).keep == Retention(5, 600.0)


@pytest.mark.parametrize("pattern", ["", "a*b", "*a", "**", "a b", "@"])
def test_a_malformed_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="no pattern of room names"):
        RoomCatalog([("chat:*", SMALL), (pattern, SMALL)])
