"""`hubbub kick`, `disconnect`, `block` and `unblock`: what is done to users, on every node."""

import time
from typing import Annotated, Any

import typer

from entrypoints.cli_remote import HERE, Key, Reason, Token, Url, reaching
from entrypoints.durations import seconds
from entrypoints.http.api.shapes import Ordered
from entrypoints.remote.lines import show
from entrypoints.remote.problems import Exit, Problem, told
from entrypoints.remote.server import Server, path, room_named, user_named

UserName = Annotated[str, typer.Argument(metavar="USER", help="Name of the user.")]


def kick(
    room: Annotated[str, typer.Argument(metavar="ROOM", help="Name of the room.")],
    user: UserName,
    reason: Reason = "",
    url: Url = HERE,
    key: Key = None,
    token: Token = None,
) -> None:
    """Take USER out of ROOM, on every node, within a second.

    The user may come back as far as grants allow it. Takes the grant `manage`.

    \b
    Examples:
      hubbub kick lobby bob
      hubbub kick lobby bob --reason 'be nice'
    """
    with reaching(url, key, token) as server:
        where = path("rooms", room_named(room), "members", user_named(user))
        _order(server, "DELETE", where, params={"reason": reason})
        show(f"{user} is taken out of {room}")


def disconnect(
    user: UserName,
    reason: Reason = "",
    url: Url = HERE,
    key: Key = None,
    token: Token = None,
) -> None:
    """Close all connections of USER, on every node, within a second.

    Clients are told to stay away; whoever opens a page again is let in. Takes the grant `manage`
    on the user's personal room.

    \b
    Examples:
      hubbub disconnect bob --reason 'signed out'
    """
    with reaching(url, key, token) as server:
        _order(server, "POST", _of(user, "disconnect"), json={"reason": reason})
        show(f"all connections of {user} are closed")


def block(
    user: UserName,
    duration: Annotated[
        str, typer.Option("--for", metavar="DURATION", help="How long: 30s, 15m, 12h, 7d.")
    ] = "1h",
    reason: Reason = "",
    url: Url = HERE,
    key: Key = None,
    token: Token = None,
) -> None:
    """Close all connections of USER and let nobody of that name in for a while.

    Takes the grant `manage` on the user's personal room.

    \b
    Examples:
      hubbub block bob --for 7d --reason 'be nice'
    """
    with told():
        try:
            until = time.time() + seconds("--for", duration)
        except ValueError as error:
            raise Problem(str(error), Exit.USAGE) from None
    with reaching(url, key, token) as server:
        _order(server, "PUT", _of(user, "block"), json={"until": until, "reason": reason})
        show(f"{user} is blocked for {duration}")


def unblock(user: UserName, url: Url = HERE, key: Key = None, token: Token = None) -> None:
    """Let USER in again.

    Takes the grant `manage` on the user's personal room.

    \b
    Examples:
      hubbub unblock bob
    """
    with reaching(url, key, token) as server:
        _order(server, "DELETE", _of(user, "block"))
        show(f"{user} is let in again")


def _of(user: str, what: str) -> str:
    return path("users", user_named(user), what)


def _order(server: Server, method: str, where: str, **options: Any) -> None:
    server.ask(method, where, Ordered, **options)
