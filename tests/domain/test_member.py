"""A user joins with the first session and leaves with the last one, or a grace later."""

import pytest

from domain.errors import RoomFull
from domain.identifiers import RoomId, SessionId, UserId
from domain.member import ChangeKind, Member, PresenceChange, Roster

ROOM = RoomId("chat")
ANN, BOB, CAT = UserId("ann"), UserId("bob"), UserId("cat")
S1, S2, S3 = SessionId("s1"), SessionId("s2"), SessionId("s3")
INFO = b'{"name":"Ann"}'
GRACE = 10.0


@pytest.fixture
def roster() -> Roster:
    return Roster(ROOM)


def lose(roster: Roster, session: SessionId, user: UserId, now: float) -> PresenceChange | None:
    return roster.leave(session, user, clean=False, now=now, grace=GRACE)


def end(roster: Roster, session: SessionId, user: UserId, now: float) -> PresenceChange | None:
    return roster.leave(session, user, clean=True, now=now, grace=GRACE)


def test_an_empty_room() -> None:
    snapshot = Roster(ROOM).snapshot()
    assert (snapshot.members, snapshot.count, snapshot.version) == ((), 0, 0)


def test_the_first_session_of_a_user_is_a_join(roster: Roster) -> None:
    change = roster.enter(S1, ANN, INFO)
    assert change == PresenceChange(ChangeKind.JOIN, ROOM, ANN, INFO, count=1, version=1)


def test_two_sessions_of_one_user_are_one_join_and_one_leave(roster: Roster) -> None:
    assert roster.enter(S1, ANN, INFO) is not None
    assert roster.enter(S2, ANN, INFO) is None
    assert roster.snapshot().members == (Member(ANN, INFO, sessions=2),)
    assert end(roster, S1, ANN, 1.0) is None
    assert roster.snapshot().members == (Member(ANN, INFO, sessions=1),)
    change = end(roster, S2, ANN, 2.0)
    assert change == PresenceChange(ChangeKind.LEAVE, ROOM, ANN, INFO, count=0, version=2)
    assert len(roster) == 0


def test_entering_twice_is_entering_once(roster: Roster) -> None:
    roster.enter(S1, ANN, INFO)
    assert roster.enter(S1, ANN, INFO) is None
    assert end(roster, S1, ANN, 1.0) is not None


def test_leaving_twice_is_leaving_once(roster: Roster) -> None:
    roster.enter(S1, ANN, INFO)
    assert end(roster, S1, ANN, 1.0) is not None
    assert end(roster, S1, ANN, 1.0) is None
    assert lose(roster, S1, ANN, 1.0) is None
    assert list(roster.expire(1000.0)) == []
    assert roster.version == 2


def test_a_session_that_never_entered_cannot_leave(roster: Roster) -> None:
    roster.enter(S1, ANN, INFO)
    assert end(roster, S2, ANN, 1.0) is None
    assert end(roster, S1, BOB, 1.0) is None
    assert roster.snapshot().members == (Member(ANN, INFO, sessions=1),)


def test_a_lost_member_stays_for_the_grace_and_is_counted(roster: Roster) -> None:
    roster.enter(S1, ANN, INFO)
    assert lose(roster, S1, ANN, now=100.0) is None
    assert roster.snapshot().members == (Member(ANN, INFO, sessions=0),)
    assert roster.snapshot().count == 1
    assert list(roster.expire(109.9)) == []
    assert list(roster.expire(110.0)) == [
        PresenceChange(ChangeKind.LEAVE, ROOM, ANN, INFO, count=0, version=2)
    ]
    assert list(roster.expire(111.0)) == []


def test_a_return_in_the_grace_is_invisible(roster: Roster) -> None:
    roster.enter(S1, ANN, INFO)
    lose(roster, S1, ANN, now=100.0)
    assert roster.enter(S2, ANN, INFO) is None
    assert list(roster.expire(1000.0)) == []
    assert roster.version == 1
    assert roster.snapshot().members == (Member(ANN, INFO, sessions=1),)


def test_a_return_after_the_grace_is_a_new_join(roster: Roster) -> None:
    roster.enter(S1, ANN, INFO)
    lose(roster, S1, ANN, now=100.0)
    assert len(list(roster.expire(110.0))) == 1
    change = roster.enter(S2, ANN, INFO)
    assert change == PresenceChange(ChangeKind.JOIN, ROOM, ANN, INFO, count=1, version=3)


def test_losing_one_of_two_sessions_starts_no_grace(roster: Roster) -> None:
    roster.enter(S1, ANN, INFO)
    roster.enter(S2, ANN, INFO)
    lose(roster, S1, ANN, now=100.0)
    assert list(roster.expire(1000.0)) == []
    assert end(roster, S2, ANN, now=1000.0) is not None


def test_a_second_loss_starts_the_grace_anew(roster: Roster) -> None:
    roster.enter(S1, ANN, INFO)
    lose(roster, S1, ANN, now=100.0)
    roster.enter(S2, ANN, INFO)
    lose(roster, S2, ANN, now=108.0)
    assert list(roster.expire(117.9)) == []
    assert [change.user for change in roster.expire(118.0)] == [ANN]


def test_without_a_grace_a_loss_is_a_leave(roster: Roster) -> None:
    roster.enter(S1, ANN, INFO)
    change = roster.leave(S1, ANN, clean=False, now=1.0, grace=0.0)
    assert change is not None
    assert change.kind is ChangeKind.LEAVE


def test_members_in_grace_leave_in_the_order_they_were_lost(roster: Roster) -> None:
    for session, user in ((S1, ANN), (S2, BOB), (S3, CAT)):
        roster.enter(session, user, INFO)
    lose(roster, S3, CAT, now=100.0)
    lose(roster, S1, ANN, now=101.0)
    lose(roster, S2, BOB, now=102.0)
    assert [change.user for change in roster.expire(111.5)] == [CAT, ANN]
    assert [change.user for change in roster.expire(112.0)] == [BOB]


def test_a_return_does_not_hold_up_those_lost_later(roster: Roster) -> None:
    roster.enter(S1, ANN, INFO)
    roster.enter(S2, BOB, INFO)
    lose(roster, S1, ANN, now=100.0)
    lose(roster, S2, BOB, now=101.0)
    roster.enter(S3, ANN, INFO)
    assert [change.user for change in roster.expire(111.0)] == [BOB]
    lose(roster, S3, ANN, now=112.0)
    assert [change.user for change in roster.expire(122.0)] == [ANN]


def test_every_change_raises_the_version_by_one(roster: Roster) -> None:
    changes = [
        roster.enter(S1, ANN, INFO),
        roster.enter(S2, BOB, INFO),
        end(roster, S1, ANN, 1.0),
        lose(roster, S2, BOB, 2.0),
        *roster.expire(12.0),
        roster.enter(S3, CAT, INFO),
    ]
    told = [change for change in changes if change is not None]
    assert [change.version for change in told] == [1, 2, 3, 4, 5]
    assert [change.count for change in told] == [1, 2, 1, 0, 1]
    assert roster.snapshot().version == 5


def test_a_full_room_takes_no_further_user(roster: Roster) -> None:
    roster.enter(S1, ANN, INFO, max_members=1)
    with pytest.raises(RoomFull):
        roster.enter(S2, BOB, INFO, max_members=1)
    assert (len(roster), roster.version) == (1, 1)


def test_a_full_room_takes_another_session_of_a_member(roster: Roster) -> None:
    roster.enter(S1, ANN, INFO, max_members=1)
    assert roster.enter(S2, ANN, INFO, max_members=1) is None


def test_a_place_is_kept_during_the_grace(roster: Roster) -> None:
    roster.enter(S1, ANN, INFO, max_members=1)
    lose(roster, S1, ANN, now=100.0)
    with pytest.raises(RoomFull):
        roster.enter(S2, BOB, INFO, max_members=1)
    assert roster.enter(S3, ANN, INFO, max_members=1) is None


def test_a_place_is_free_again_after_a_leave(roster: Roster) -> None:
    roster.enter(S1, ANN, INFO, max_members=1)
    end(roster, S1, ANN, 1.0)
    assert roster.enter(S2, BOB, INFO, max_members=1) is not None


def test_members_are_listed_by_name(roster: Roster) -> None:
    for session, user in ((S1, CAT), (S2, ANN), (S3, BOB)):
        roster.enter(session, user, INFO)
    members = roster.snapshot().members
    assert members is not None
    assert [member.user for member in members] == [ANN, BOB, CAT]


def test_the_newest_session_says_what_is_shown(roster: Roster) -> None:
    roster.enter(S1, ANN, b'{"name":"Ann"}')
    roster.enter(S2, ANN, b'{"name":"Anna"}')
    assert roster.snapshot().members == (Member(ANN, b'{"name":"Anna"}', sessions=2),)


def test_a_snapshot_does_not_change_afterwards(roster: Roster) -> None:
    roster.enter(S1, ANN, INFO)
    before = roster.snapshot()
    roster.enter(S2, BOB, INFO)
    assert before.members == (Member(ANN, INFO, sessions=1),)
    assert before.version == 1
