"""What every presence promises: users, not sessions; a grace; and versions without a hole."""

import asyncio
import random

import pytest

from adapters.memory import presence as memory
from adapters.memory.presence import MemoryPresence
from domain.errors import RoomFull
from domain.identifiers import RoomId, SessionId, UserId
from domain.member import ChangeKind, Member, PresenceChange
from tests.contract.conftest import CHAT, GRACE, PresenceHarness, PresenceNode, PresenceNotes

NEWS = RoomId("news")
JOIN, LEAVE = ChangeKind.JOIN, ChangeKind.LEAVE


async def members(node: PresenceNode, room: RoomId = CHAT) -> list[tuple[str, int]]:
    """Users and how many sessions they have."""
    snapshot = await node.presence.snapshot(room)
    assert snapshot.members is not None
    assert snapshot.count == len(snapshot.members)
    return [(member.user, member.sessions) for member in snapshot.members]


# Coming and going


async def test_a_user_comes_and_goes(attended: PresenceNode) -> None:
    await attended.enter("ann", info=b'{"n":1}')
    await attended.leave("ann")
    await attended.notes.heard(2)
    assert attended.notes.changes == [
        PresenceChange(JOIN, CHAT, UserId("ann"), b'{"n":1}', count=1, version=1),
        PresenceChange(LEAVE, CHAT, UserId("ann"), b'{"n":1}', count=0, version=2),
    ]


async def test_who_enters_is_told_who_is_there(attended: PresenceNode) -> None:
    await attended.enter("zoe", info=b'"z"')
    attendance = await attended.enter("ann", info=b'"a"')
    assert attendance.joined
    assert attendance.snapshot.members == (
        Member(UserId("ann"), b'"a"', 1),
        Member(UserId("zoe"), b'"z"', 1),
    )
    assert (attendance.snapshot.count, attendance.snapshot.version) == (2, 2)


async def test_a_user_with_two_sessions_comes_and_goes_once(attended: PresenceNode) -> None:
    first = await attended.enter("ann", "1")
    second = await attended.enter("ann", "2")
    assert (first.joined, second.joined) == (True, False)
    assert await members(attended) == [("ann", 2)]
    await attended.leave("ann", "1")
    assert await members(attended) == [("ann", 1)]
    await attended.leave("ann", "2")
    assert await attended.notes.heard(2) == [(JOIN, "ann"), (LEAVE, "ann")]


async def test_entering_twice_is_entering_once(attended: PresenceNode) -> None:
    await attended.enter("ann")
    again = await attended.enter("ann")
    assert again.joined is False
    assert await members(attended) == [("ann", 1)]
    await attended.leave("ann")
    assert await attended.notes.heard(2) == [(JOIN, "ann"), (LEAVE, "ann")]


async def test_leaving_twice_is_harmless(attended: PresenceNode) -> None:
    await attended.enter("ann", "1")
    await attended.enter("ann", "2")
    await attended.leave("ann", "1")
    await attended.leave("ann", "1")
    await attended.leave("ann", "1", clean=False)
    assert await members(attended) == [("ann", 1)]
    assert attended.notes.told() == [(JOIN, "ann")]


async def test_leaving_where_one_is_not_is_harmless(attended: PresenceNode) -> None:
    await attended.leave("ann")
    await attended.enter("bob")
    await attended.leave("ann")
    await attended.leave("bob", "another")
    await attended.leave("bob", room=NEWS)
    assert await members(attended) == [("bob", 1)]
    assert attended.notes.told() == [(JOIN, "bob")]


async def test_rooms_are_apart(attended: PresenceNode) -> None:
    await attended.enter("ann")
    await attended.enter("ann", room=NEWS)
    await attended.leave("ann")
    assert (await members(attended), await members(attended, NEWS)) == ([], [("ann", 1)])
    assert await attended.notes.heard(1, NEWS) == [(JOIN, "ann")]


async def test_an_empty_room_has_nobody(attended: PresenceNode) -> None:
    snapshot = await attended.presence.snapshot(CHAT)
    assert (snapshot.members, snapshot.count) == ((), 0)


async def test_the_newest_info_of_a_user_counts(attended: PresenceNode) -> None:
    await attended.enter("ann", "1", info=b'"old"')
    attendance = await attended.enter("ann", "2", info=b'"new"')
    assert attendance.snapshot.members == (Member(UserId("ann"), b'"new"', 2),)


# Grace


async def test_a_loss_is_told_after_the_grace(
    presences: PresenceHarness, attended: PresenceNode
) -> None:
    await attended.enter("ann")
    await attended.leave("ann", clean=False)
    assert await members(attended) == [("ann", 0)]
    await presences.advance(GRACE - 1)
    assert await members(attended) == [("ann", 0)]
    assert attended.notes.told() == [(JOIN, "ann")]
    await presences.advance(2)
    assert await attended.notes.heard(2) == [(JOIN, "ann"), (LEAVE, "ann")]
    assert await members(attended) == []


async def test_a_return_within_the_grace_is_invisible(
    presences: PresenceHarness, attended: PresenceNode
) -> None:
    await attended.enter("ann", "1")
    await attended.leave("ann", "1", clean=False)
    await presences.advance(GRACE - 1)
    again = await attended.enter("ann", "2")
    assert (again.joined, again.snapshot.version) == (False, 1)
    await presences.advance(10 * GRACE)
    assert await members(attended) == [("ann", 1)]
    assert attended.notes.told() == [(JOIN, "ann")]


async def test_each_loss_has_a_grace_of_its_own(
    presences: PresenceHarness, attended: PresenceNode
) -> None:
    await attended.enter("ann", "1")
    await attended.leave("ann", "1", clean=False)
    await presences.advance(GRACE - 1)
    await attended.enter("ann", "2")
    await attended.leave("ann", "2", clean=False)
    await presences.advance(GRACE - 1)
    assert await members(attended) == [("ann", 0)]
    await presences.advance(2)
    assert await members(attended) == []


async def test_with_a_session_left_there_is_no_grace(
    presences: PresenceHarness, attended: PresenceNode
) -> None:
    await attended.enter("ann", "1")
    await attended.enter("ann", "2")
    await attended.leave("ann", "1", clean=False)
    await presences.advance(2 * GRACE)
    assert await members(attended) == [("ann", 1)]
    await attended.leave("ann", "2")
    assert await attended.notes.heard(2) == [(JOIN, "ann"), (LEAVE, "ann")]


async def test_how_the_last_session_ends_decides(
    presences: PresenceHarness, attended: PresenceNode
) -> None:
    await attended.enter("ann", "1")
    await attended.enter("ann", "2")
    await attended.leave("ann", "1")
    await attended.leave("ann", "2", clean=False)
    assert await members(attended) == [("ann", 0)]
    await presences.advance(GRACE + 1)
    assert await members(attended) == []


async def test_users_in_grace_leave_in_the_order_they_were_lost(
    presences: PresenceHarness, attended: PresenceNode
) -> None:
    for user in ("ann", "bob", "cid"):
        await attended.enter(user)
    for user in ("cid", "ann", "bob"):
        await attended.leave(user, clean=False)
        await presences.advance(1)
    await presences.advance(2 * GRACE)
    heard = await attended.notes.heard(6)
    assert heard[3:] == [(LEAVE, "cid"), (LEAVE, "ann"), (LEAVE, "bob")]


# Bounds


async def test_a_full_room_takes_nobody_new(attended: PresenceNode) -> None:
    await attended.enter("ann", max_members=2)
    await attended.enter("bob", max_members=2)
    with pytest.raises(RoomFull):
        await attended.enter("cid", max_members=2)
    assert await members(attended) == [("ann", 1), ("bob", 1)]
    assert attended.notes.told() == [(JOIN, "ann"), (JOIN, "bob")]


async def test_a_full_room_takes_another_session_of_who_is_there(attended: PresenceNode) -> None:
    await attended.enter("ann", max_members=1)
    assert (await attended.enter("ann", "2", max_members=1)).joined is False


async def test_a_full_room_takes_somebody_once_there_is_room(attended: PresenceNode) -> None:
    await attended.enter("ann", max_members=1)
    await attended.leave("ann")
    assert (await attended.enter("bob", max_members=1)).joined


async def test_users_in_grace_keep_their_place(
    presences: PresenceHarness, attended: PresenceNode
) -> None:
    await attended.enter("ann", max_members=1)
    await attended.leave("ann", clean=False)
    with pytest.raises(RoomFull):
        await attended.enter("bob", max_members=1)
    assert (await attended.enter("ann", "2", max_members=1)).joined is False
    await attended.leave("ann", "2", clean=False)
    await presences.advance(GRACE + 1)
    assert (await attended.enter("bob", max_members=1)).joined


async def test_of_many_who_come_at_once_only_so_many_get_in(attended: PresenceNode) -> None:
    outcomes = await asyncio.gather(
        *(attended.enter(f"user{number}", max_members=5) for number in range(20)),
        return_exceptions=True,
    )
    refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert {type(outcome) for outcome in refused} == {RoomFull}
    assert (len(refused), len(await members(attended))) == (15, 5)


async def test_a_crowded_room_is_counted_and_not_listed(attended: PresenceNode) -> None:
    for number in range(3):
        attendance = await attended.enter(f"user{number}", list_limit=2)
        assert attendance.snapshot.count == number + 1
        assert (attendance.snapshot.members is None) == (number == 2)
    assert len(await members(attended)) == 3


async def test_many_users(attended: PresenceNode) -> None:
    users = [f"user{number:04}" for number in range(500)]
    await asyncio.gather(*(attended.enter(user) for user in users))
    assert await members(attended) == [(user, 1) for user in users]
    for user in users:
        await attended.leave(user)
    assert len(await attended.notes.heard(1000)) == 1000
    assert await members(attended) == []


# Versions


async def test_changes_and_snapshots_tell_one_story(
    presences: PresenceHarness, attended: PresenceNode
) -> None:
    """Somebody who starts with any snapshot and applies the changes after it is right."""
    dice = random.Random(7)
    await attended.enter("host")
    snapshots = [await attended.presence.snapshot(CHAT)]
    sessions: set[tuple[str, str]] = set()
    for _ in range(300):
        user, session = f"user{dice.randrange(6)}", str(dice.randrange(3))
        if (user, session) in sessions:
            sessions.remove((user, session))
            await attended.leave(user, session, clean=dice.random() < 0.5)
        elif dice.random() < 0.2:
            await presences.advance(dice.choice([1.0, GRACE]))
        else:
            sessions.add((user, session))
            snapshots.append((await attended.enter(user, session)).snapshot)
    await presences.advance(2 * GRACE)
    last = await attended.presence.snapshot(CHAT)
    await attended.notes.heard(last.version)
    changes = attended.notes.changes
    assert [change.version for change in changes] == list(range(1, last.version + 1))
    for snapshot in snapshots:
        present = {member.user for member in snapshot.members or ()}
        for change in changes[snapshot.version :]:
            assert (change.user in present) == (change.kind is LEAVE)
            present ^= {change.user}
            assert change.count == len(present)
        assert present == {member.user for member in last.members or ()}


async def test_a_session_that_adds_nothing_changes_no_version(attended: PresenceNode) -> None:
    first = await attended.enter("ann", "1")
    second = await attended.enter("ann", "2")
    await attended.leave("ann", "1")
    third = await attended.enter("ann", "3")
    versions = [attendance.snapshot.version for attendance in (first, second, third)]
    assert versions == [1, 1, 1]


async def test_who_enters_is_told_of_no_change_that_the_snapshot_lacks(
    attended: PresenceNode,
) -> None:
    await attended.enter("ann")
    entering = [asyncio.create_task(attended.enter(f"user{number}")) for number in range(50)]
    for task in entering:
        snapshot = (await task).snapshot
        assert len(attended.notes.changes) >= snapshot.version
        assert {change.version for change in attended.notes.changes} >= {snapshot.version}


# Several nodes


async def test_a_user_comes_and_goes_once_over_all_nodes(
    presences: PresenceHarness, two_attended: tuple[PresenceNode, PresenceNode]
) -> None:
    one, two = two_attended
    await one.enter("host1")
    await two.enter("host2")
    outcomes = [
        await node.enter("ann", session)
        for node, session in ((one, "1"), (two, "2"), (two, "3"), (one, "4"))
    ]
    assert [outcome.joined for outcome in outcomes] == [True, False, False, False]
    await presences.settle()
    for node in two_attended:
        assert ("ann", 4) in await members(node)
    for node, session in ((one, "4"), (two, "2"), (one, "1"), (two, "3")):
        assert (LEAVE, "ann") not in node.notes.told()
        await node.leave("ann", session)
    assert await one.notes.heard(4) == [*_joins("host1", "host2", "ann"), (LEAVE, "ann")]
    assert await two.notes.heard(3) == [*_joins("host2", "ann"), (LEAVE, "ann")]


def _joins(*users: str) -> list[tuple[str, str]]:
    return [(JOIN, user) for user in users]


async def test_who_enters_is_told_who_is_on_other_nodes(
    two_attended: tuple[PresenceNode, PresenceNode],
) -> None:
    one, two = two_attended
    await one.enter("zoe", info=b'"z"')
    attendance = await two.enter("ann", info=b'"a"')
    assert attendance.snapshot.members == (
        Member(UserId("ann"), b'"a"', 1),
        Member(UserId("zoe"), b'"z"', 1),
    )
    assert (attendance.snapshot.count, attendance.snapshot.version) == (2, 2)
    assert two.notes.told() == [(JOIN, "ann")]
    assert await one.notes.heard(2) == _joins("zoe", "ann")


async def test_a_node_without_anybody_in_a_room_knows_who_is_there(
    two_attended: tuple[PresenceNode, PresenceNode],
) -> None:
    one, two = two_attended
    for number in range(3):
        await one.enter(f"user{number}")
    assert await members(two) == [("user0", 1), ("user1", 1), ("user2", 1)]
    crowded = await two.presence.snapshot(CHAT, 2)
    assert (crowded.members, crowded.count, crowded.version) == (None, 3, 3)
    assert two.notes.told() == []


async def test_a_loss_here_is_none_while_the_user_is_there(
    presences: PresenceHarness, two_attended: tuple[PresenceNode, PresenceNode]
) -> None:
    one, two = two_attended
    await one.enter("ann", "1")
    await two.enter("ann", "2")
    await one.leave("ann", "1", clean=False)
    await presences.advance(2 * GRACE)
    assert await members(two) == [("ann", 1)]
    await two.leave("ann", "2")
    assert await members(two) == []
    assert await two.notes.heard(1) == [(LEAVE, "ann")]


async def test_a_return_elsewhere_within_the_grace_is_invisible(
    presences: PresenceHarness, two_attended: tuple[PresenceNode, PresenceNode]
) -> None:
    one, two = two_attended
    await one.enter("host")
    await one.enter("ann", "1")
    await one.leave("ann", "1", clean=False)
    await presences.advance(GRACE - 1)
    assert (await two.enter("ann", "2")).joined is False
    await presences.advance(10 * GRACE)
    assert await members(one) == [("ann", 1), ("host", 1)]
    assert one.notes.told() == _joins("host", "ann")
    assert two.notes.told() == []


async def test_a_grace_that_ends_is_told_on_every_node(
    presences: PresenceHarness, two_attended: tuple[PresenceNode, PresenceNode]
) -> None:
    one, two = two_attended
    await two.enter("host")
    await one.enter("ann")
    await one.leave("ann", clean=False)
    await presences.advance(GRACE + 1)
    assert await one.notes.heard(2) == [(JOIN, "ann"), (LEAVE, "ann")]
    assert await two.notes.heard(3) == [*_joins("host", "ann"), (LEAVE, "ann")]


async def test_the_newest_info_counts_wherever_it_came_in(
    presences: PresenceHarness, two_attended: tuple[PresenceNode, PresenceNode]
) -> None:
    one, two = two_attended
    await one.enter("ann", "1", info=b'"old"')
    await two.enter("ann", "2", info=b'"new"')
    await one.enter("ann", "3", info=b'"newest"')
    await two.leave("ann", "2")
    for node in two_attended:
        snapshot = await node.presence.snapshot(CHAT)
        assert snapshot.members == (Member(UserId("ann"), b'"newest"', 2),)


async def test_a_full_room_is_full_for_all_nodes_together(
    presences: PresenceHarness, two_attended: tuple[PresenceNode, PresenceNode]
) -> None:
    one, two = two_attended
    outcomes = await asyncio.gather(
        *(
            node.enter(f"user{number}-{place}", max_members=7)
            for number in range(20)
            for place, node in enumerate(two_attended)
        ),
        return_exceptions=True,
    )
    refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert {type(outcome) for outcome in refused} == {RoomFull}
    await presences.settle()
    assert (len(refused), len(await members(one)), len(await members(two))) == (33, 7, 7)


async def test_many_users_over_two_nodes(
    presences: PresenceHarness, two_attended: tuple[PresenceNode, PresenceNode]
) -> None:
    one, two = two_attended
    users = [f"user{number:04}" for number in range(1000)]
    await asyncio.gather(*(two_attended[at % 2].enter(user) for at, user in enumerate(users)))
    await presences.settle()
    for node in two_attended:
        assert await members(node) == [(user, 1) for user in users]
    for at, user in enumerate(users):
        node = two_attended[at % 2]
        node.presence.leave(CHAT, SessionId(f"{user}-1"), UserId(user), clean=True)
    await presences.settle()
    assert await members(one) == await members(two) == []
    for node in two_attended:
        left = [user for kind, user in node.notes.told() if kind is LEAVE]
        assert sorted(left) == users
        versions = [change.version for change in node.notes.changes]
        assert versions == list(range(versions[0], 2001))


async def test_two_nodes_tell_one_story(
    presences: PresenceHarness, two_attended: tuple[PresenceNode, PresenceNode]
) -> None:
    """Whichever node somebody asks: a snapshot and the changes after it there are right."""
    dice = random.Random(11)
    for at, node in enumerate(two_attended):
        await node.enter(f"host{at}")
    snapshots = [(node, await node.presence.snapshot(CHAT)) for node in two_attended]
    sessions: set[tuple[PresenceNode, str, str]] = set()
    for _ in range(300):
        node = dice.choice(two_attended)
        user, session = f"user{dice.randrange(6)}", str(dice.randrange(3))
        if (node, user, session) in sessions:
            sessions.remove((node, user, session))
            name = SessionId(f"{user}-{session}")
            node.presence.leave(CHAT, name, UserId(user), clean=dice.random() < 0.5)
        elif dice.random() < 0.2:
            await presences.advance(dice.choice([1.0, GRACE]))
        else:
            sessions.add((node, user, session))
            snapshots.append((node, (await node.enter(user, session)).snapshot))
    await presences.advance(2 * GRACE)
    for node in two_attended:
        versions = [change.version for change in node.notes.changes]
        assert versions == list(range(versions[0], versions[-1] + 1))
    last = await two_attended[0].presence.snapshot(CHAT)
    assert await two_attended[1].presence.snapshot(CHAT) == last
    present = {member.user for member in last.members or ()}
    assert present == {"host0", "host1"} | {user for _, user, _ in sessions}
    for node, snapshot in snapshots:
        present = {member.user for member in snapshot.members or ()}
        for change in node.notes.changes:
            if change.version > snapshot.version:
                assert (change.user in present) == (change.kind is LEAVE)
                present ^= {change.user}
                assert change.count == len(present)
        assert present == {member.user for member in last.members or ()}


# The memory adapter by itself


async def test_graces_end_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "SWEEP_INTERVAL", 0.0)
    presence, notes = MemoryPresence(grace=0.01), PresenceNotes()
    presence.attach(notes)
    ann, session = UserId("ann"), SessionId("s1")
    await presence.enter(CHAT, session, ann, b"null", max_members=None, list_limit=9)
    presence.leave(CHAT, session, ann, clean=False)
    task = asyncio.create_task(presence.run())
    assert await notes.heard(2) == [(JOIN, "ann"), (LEAVE, "ann")]
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()


async def test_without_a_grace_a_loss_is_a_leave() -> None:
    presence, notes = MemoryPresence(grace=0.0), PresenceNotes()
    presence.attach(notes)
    ann, session = UserId("ann"), SessionId("s1")
    await presence.enter(CHAT, session, ann, b"null", max_members=None, list_limit=9)
    presence.leave(CHAT, session, ann, clean=False)
    assert notes.told() == [(JOIN, "ann"), (LEAVE, "ann")]
