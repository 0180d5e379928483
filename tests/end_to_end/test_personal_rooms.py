"""`@ann` is Ann's: how one user is reached, and that nobody else gets in."""

import pytest

from tests.running_server import Serve


async def test_a_user_is_reached_in_all_of_its_sessions_and_nobody_else(serve: Serve) -> None:
    server = await serve()
    ann = await server.user("ann")
    tabs = [await server.user("bob") for _ in range(2)]
    cleo = await server.user("cleo")
    ack = await ann.ask("publish", room="@bob", data={"hello": "bob"})
    assert (ack["type"], ack["seq"]) == ("ack", 1)
    for tab in tabs:
        await tab.expect("message", room="@bob", data={"hello": "bob"}, **{"from": "ann"})
    for other in (ann, cleo):
        assert await other.is_quiet()


@pytest.mark.parametrize("command", ["join", "history", "members"])
async def test_nobody_else_gets_in(serve: Serve, command: str) -> None:
    server = await serve()
    ann = await server.user("ann")
    bob = await server.user("bob")
    await ann.ask("publish", room="@bob", data="secret")
    refused = await ann.ask(command, room="@bob")
    assert (refused["type"], refused["code"]) == ("error", "not_granted")
    await bob.expect("message", data="secret")
    allowed = await bob.ask(command, room="@bob")
    assert allowed["type"] != "error"


async def test_it_has_no_presence(serve: Serve) -> None:
    server = await serve()
    bob = await server.user("bob")
    await server.user("bob")
    assert await bob.is_quiet()
    listed = await bob.ask("members", room="@bob")
    assert (listed["members"], listed["count"], listed["version"]) == (None, None, None)


async def test_names_that_differ_in_case_are_different_users(serve: Serve) -> None:
    server = await serve()
    bob = await server.user("Bob")
    ann = await server.user("ann")
    await ann.ask("publish", room="@bob", data="for bob")
    assert await bob.is_quiet()
    assert (await bob.ask("join", room="@bob"))["code"] == "not_granted"


async def test_the_longest_name_has_a_room(serve: Serve) -> None:
    server = await serve()
    name = "x" * 128
    user = await server.user(name)
    ann = await server.user("ann")
    await ann.ask("publish", room=f"@{name}", data=1)
    await user.expect("message", room=f"@{name}", data=1)
