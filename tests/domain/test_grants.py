"""Who may do what where."""

import pytest

from domain.errors import BadName, Forbidden
from domain.grants import (
    ALL_GRANTS,
    DEFAULT_GRANTS,
    OPEN_GRANTS,
    Action,
    Backend,
    Grants,
    Identity,
)
from domain.identifiers import RoomId, UserId

ANN = UserId("ann")
LOBBY = RoomId("lobby")
ANNS, BOBS = RoomId("@ann"), RoomId("@bob")
INSIDE = [Action.JOIN, Action.HISTORY, Action.MEMBERS]
FROM_OUTSIDE = [Action.PUBLISH, Action.MANAGE]
EVERYTHING = Grants({"*": Action, "@*": Action})
NOTHING = Grants({})


def granted(pattern: str, room: str) -> bool:
    return Grants({pattern: ["join"]}).allows(Action.JOIN, RoomId(room))


@pytest.mark.parametrize(
    ("pattern", "room"),
    [
        ("lobby", "lobby"),
        ("*", "lobby"),
        ("chat:*", "chat:1"),
        ("chat:*", "chat:"),
        ("ann@*", "ann@home"),
        ("@ann", "@ann"),
        ("@*", "@ann"),
        ("@a*", "@ann"),
        ("@@*", "@@x"),
        ("@*", "@@x"),
    ],
)
def test_a_pattern_matches(pattern: str, room: str) -> None:
    assert granted(pattern, room)


@pytest.mark.parametrize(
    ("pattern", "room"),
    [
        ("lobby", "lobby2"),
        ("lobby2", "lobby"),
        ("lobby", "Lobby"),
        ("chat:*", "chat"),
        ("chat:*", "Chat:1"),
        ("chat:*", "my-chat:1"),
        ("c.*", "chat"),
        ("*", "@ann"),
        ("a*", "@ann"),
        ("ann", "@ann"),
        ("@*", "ann"),
        ("@*", "ann@home"),
        ("@a*", "@bob"),
        ("@@*", "@ann"),
    ],
)
def test_a_pattern_does_not_match(pattern: str, room: str) -> None:
    assert not granted(pattern, room)


def test_an_action_is_granted_only_where_it_is_listed() -> None:
    grants = Grants({"chat:*": ["join", "publish"], "news": ["join"], "chat:2": ["history"]})
    assert grants.allows(Action.PUBLISH, RoomId("chat:1"))
    assert not grants.allows(Action.HISTORY, RoomId("chat:1"))
    assert grants.allows(Action.HISTORY, RoomId("chat:2"))
    assert grants.allows(Action.JOIN, RoomId("news"))
    assert not grants.allows(Action.PUBLISH, RoomId("news"))
    assert not grants.allows(Action.MANAGE, RoomId("chat:1"))


def test_patterns_add_up() -> None:
    grants = Grants({"chat:*": ["join"], "chat:1": ["publish"]})
    assert grants.allows(Action.JOIN, RoomId("chat:1"))
    assert grants.allows(Action.PUBLISH, RoomId("chat:1"))


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "@",
        "**",
        "a*b",
        "*a",
        "chat:*:*",
        "a b",
        "ä*",
        "chat/*",
        "a\n",
        "a*\n",
        "a\n*",
        "a" * 129,
    ],
)
def test_a_malformed_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="no pattern of room names"):
        Grants({pattern: ["join"]})
    with pytest.raises(ValueError, match="no pattern of room names"):
        Grants({pattern: []})


@pytest.mark.parametrize("action", ["", "read", "JOIN", "*", "join "])
def test_an_unknown_action_is_refused_and_the_known_ones_named(action: str) -> None:
    with pytest.raises(ValueError, match="known are join, publish, history, members, manage"):
        Grants({"chat:*": ["join", action]})


@pytest.mark.parametrize("actions", ["join", None, 1, True])
def test_what_is_not_a_list_of_actions_is_refused(actions: object) -> None:
    rules: dict[str, object] = {"chat:*": actions}
    with pytest.raises(ValueError, match="must be a list"):
        Grants(rules)  # type: ignore[arg-type]


@pytest.mark.parametrize("action", [None, 1, [], {}])
def test_what_is_not_a_word_is_no_action(action: object) -> None:
    rules: dict[str, list[object]] = {"chat:*": [action]}
    with pytest.raises(ValueError, match="unknown action"):
        Grants(rules)  # type: ignore[arg-type]


def test_no_rules_grant_nothing() -> None:
    assert not any(NOTHING.allows(action, LOBBY) for action in Action)


def test_the_default_is_everything_in_shared_rooms_but_manage() -> None:
    allowed = {action for action in Action if DEFAULT_GRANTS.allows(action, LOBBY)}
    assert allowed == {Action.JOIN, Action.PUBLISH, Action.HISTORY, Action.MEMBERS}
    assert not any(DEFAULT_GRANTS.allows(action, ANNS) for action in Action)


def test_the_open_mode_adds_publishing_to_anybody() -> None:
    assert {action for action in Action if OPEN_GRANTS.allows(action, BOBS)} == {Action.PUBLISH}
    assert all(
        OPEN_GRANTS.allows(action, LOBBY) == DEFAULT_GRANTS.allows(action, LOBBY)
        for action in Action
    )


def test_grants_from_the_same_rules_are_equal() -> None:
    grants = Grants({"*": ["join", Action.PUBLISH]})
    same = Grants({"*": [Action.PUBLISH, "join", "join"]})
    assert grants == same
    assert hash(grants) == hash(same)
    assert grants != Grants({"*": ["join"]})
    assert grants != "grants"
    assert repr(grants) == "Grants({'*': ['join', 'publish']})"


def test_grants_do_not_follow_the_rules_they_were_built_from() -> None:
    rules = {"*": ["join"]}
    grants = Grants(rules)
    rules["*"].append("manage")
    rules["@*"] = ["publish"]
    assert not grants.allows(Action.MANAGE, LOBBY)
    assert not grants.allows(Action.PUBLISH, BOBS)


@pytest.mark.parametrize("action", INSIDE)
def test_a_personal_room_is_open_to_its_owner_without_a_grant(action: Action) -> None:
    assert Identity(ANN, NOTHING).may(action, ANNS)


@pytest.mark.parametrize("action", INSIDE)
def test_a_personal_room_is_closed_to_everybody_else_whatever_is_granted(action: Action) -> None:
    assert not Identity(ANN, EVERYTHING).may(action, BOBS)
    assert not Identity(ANN, EVERYTHING).may(action, RoomId("@ann2"))
    assert not Identity(ANN, EVERYTHING).may(action, RoomId("@@ann"))


@pytest.mark.parametrize("action", FROM_OUTSIDE)
def test_acting_on_a_personal_room_takes_a_grant_that_names_such_rooms(action: Action) -> None:
    for room in (ANNS, BOBS):
        assert not Identity(ANN, NOTHING).may(action, room)
        assert not Identity(ANN, Grants({"*": [action]})).may(action, room)
        assert Identity(ANN, Grants({"@*": [action]})).may(action, room)
    assert not Identity(ANN, Grants({"@ann": [action]})).may(action, BOBS)


def test_shared_rooms_go_by_the_grants() -> None:
    identity = Identity(ANN, Grants({"chat:*": ["join"]}))
    assert identity.may(Action.JOIN, RoomId("chat:1"))
    assert not identity.may(Action.PUBLISH, RoomId("chat:1"))
    assert not identity.may(Action.JOIN, LOBBY)
    # A room of the same name as a user is a room like any other.
    assert not identity.may(Action.JOIN, RoomId("ann"))


# Backends


@pytest.mark.parametrize("action", INSIDE)
def test_a_personal_room_is_closed_to_backends(action: Action) -> None:
    assert not Backend("app", ALL_GRANTS).may(action, ANNS)
    # Nor is one theirs that is called like them.
    assert not Backend("ann", ALL_GRANTS).may(action, ANNS)


@pytest.mark.parametrize("action", Action)
def test_a_backend_goes_by_its_grants_elsewhere(action: Action) -> None:
    assert Backend("app", ALL_GRANTS).may(action, LOBBY)
    assert not Backend("app", Grants({"chat:*": Action})).may(action, LOBBY)


@pytest.mark.parametrize("action", FROM_OUTSIDE)
def test_a_backend_acts_on_personal_rooms_by_a_grant_that_names_them(action: Action) -> None:
    assert Backend("app", ALL_GRANTS).may(action, ANNS)
    assert not Backend("app", Grants({"*": Action})).may(action, ANNS)


def test_managing_a_user_takes_the_grant_to_manage_the_personal_room() -> None:
    for caller in (Backend("app", ALL_GRANTS), Identity(ANN, EVERYTHING)):
        assert caller.manages(ANN)
        assert caller.manages(None)
    one = Backend("app", Grants({"@ann": ["manage"], "*": ["manage"]}))
    assert one.manages(ANN)
    assert not one.manages(UserId("bob"))
    assert not one.manages(None)
    some = Backend("app", Grants({"@a*": ["manage"]}))
    assert some.manages(ANN)
    assert not some.manages(None)
    assert not Backend("app", Grants({"@*": ["publish"]})).manages(ANN)
    assert not Identity(ANN, OPEN_GRANTS).manages(ANN)


def test_users_speak_for_themselves_and_backends_for_anybody() -> None:
    ann, app = Identity(ANN, EVERYTHING), Backend("app", NOTHING)
    assert ann.speaker(None) == ann.speaker("ann") == ANN
    with pytest.raises(Forbidden):
        ann.speaker("bob")
    assert app.speaker(None) is None
    assert app.speaker("bob") == "bob"
    with pytest.raises(BadName):
        app.speaker("b b")


def test_no_key_is_taken_for_a_user_s() -> None:
    named_alike = Identity(UserId("key:app"), NOTHING), Identity(UserId("app"), NOTHING)
    assert Backend("app", NOTHING).principal not in {user.principal for user in named_alike}


def test_whether_anything_is_granted_at_all() -> None:
    grants = Grants({"chat:*": ["history"], "@ann": ["publish"]})
    assert grants.reaches(RoomId("chat:1"))
    assert grants.reaches(ANNS)
    assert not grants.reaches(LOBBY)
    assert not NOTHING.reaches(LOBBY)
