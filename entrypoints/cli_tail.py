"""`hubbub tail`: what happens in rooms, as it happens."""

import asyncio
import os
import stat
import sys
from typing import Annotated, Any

import typer

from entrypoints.cli_remote import HERE, AsJson, Key, Token, Url
from entrypoints.remote.follow import MAX_ROOMS, Follower, Happening, Wish
from entrypoints.remote.lines import harmless, message_line, note, presence_line, safe, show
from entrypoints.remote.problems import Exit, Problem, told
from entrypoints.remote.server import read_target, room_named, user_named


def tail(
    rooms: Annotated[
        list[str], typer.Argument(metavar="ROOM...", help=f"Up to {MAX_ROOMS} rooms.")
    ],
    history: Annotated[
        int, typer.Option("--history", min=0, metavar="N", help="Begin with the newest N messages.")
    ] = 0,
    presence: Annotated[bool, typer.Option("--presence", help="Show who comes and goes.")] = False,
    user: Annotated[
        str | None,
        typer.Option("--user", metavar="USER", help="Name to go by, where everybody may use any."),
    ] = None,
    as_json: AsJson = False,
    url: Url = HERE,
    key: Key = None,
    token: Token = None,
) -> None:
    """Show messages of rooms as they come, until Ctrl-C.

    When the connection breaks it comes back and goes on where it was: nothing is missing and
    nothing comes twice, or it says what happened (gap, rewound, reset). Takes the grant `join`,
    for --history also `history`. --presence makes you a member whom others see, and so takes a
    user: a token, or any name where everybody may use any. With --json every frame is written as
    it came; what is said of the connection goes to stderr.

    \b
    Examples:
      hubbub tail lobby
      hubbub tail lobby news --presence --history 20
      hubbub tail orders --json | jq .data
      HUBBUB_TOKEN=$(hubbub token ann) hubbub tail lobby
    """
    with told():
        names = list(dict.fromkeys(map(room_named, rooms)))
        if len(names) > MAX_ROOMS:
            more = f"{len(names)} rooms are too many for one stream"
            raise Problem(f"{more}: {MAX_ROOMS} at most, the rest in another command", Exit.USAGE)
        name = None if user is None else user_named(user)
        seen = _write_json if as_json else _write
        wish = Wish(names, history, presence, name)
        asyncio.run(_follow(Follower(read_target(url, key, token), wish, seen, note)))


async def _follow(follower: Follower) -> None:
    """Until it ends, or nobody reads any more what is written. Raises Problem, BrokenPipeError."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    closed = False

    def close() -> None:
        nonlocal closed
        closed = True
        loop.remove_reader(sys.stdout)
        task.cancel()

    if _is_pipe():
        # The writing end of a pipe is never readable, unless the other end is closed.
        loop.add_reader(sys.stdout, close)
    try:
        await follower.run()
    except asyncio.CancelledError:
        if closed:
            raise BrokenPipeError from None
        raise


def _is_pipe() -> bool:
    if os.name != "posix":
        return False  # nobody could be told
    try:
        return stat.S_ISFIFO(os.fstat(sys.stdout.fileno()).st_mode)
    except OSError:
        return False


def _write_json(happening: Happening) -> None:
    show(harmless(happening.text))
    _note(happening.frame)


def _write(happening: Happening) -> None:
    frame = happening.frame
    if frame.get("type") == "message":
        show(message_line(frame))
        return
    line = presence_line(frame)
    if line is not None:
        show(line)
    _note(frame)


def _note(frame: dict[str, Any]) -> None:
    """What else there is to be known of a room."""
    room = safe(str(frame.get("room")))
    match frame:
        case {"type": "removed", "code": code, "reason": reason}:
            note(f"{room}: taken out ({safe(str(code))}: {safe(str(reason))})")
        case {"recovery": {"outcome": "gap", "first": first}}:
            note(f"{room}: what came before {first} is gone (gap)")
        case {"recovery": {"outcome": "rewound", "valid_to": top}}:
            note(f"{room}: the store lost what came after {top}: forget it (rewound)")
        case {"recovery": {"outcome": "reset"}}:
            note(f"{room}: another log, whose numbers begin anew (reset)")
