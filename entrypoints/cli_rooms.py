"""`hubbub rooms`, `members` and `history`: what there is to read of rooms."""

from collections.abc import Iterator
from typing import Annotated

import msgspec
import typer

from entrypoints.cli_remote import HERE, AsJson, Key, Limit, Token, Url, reaching
from entrypoints.http.api.shapes import HistoryPage, MembersPage, RoomsPage
from entrypoints.remote.lines import json_line, message_line, note, show, table
from entrypoints.remote.server import Server, path, room_named

_PAGE = 100  # what a server gives at once
_EVERYTHING = 1_000_000

RoomName = Annotated[str, typer.Argument(metavar="ROOM", help="Name of the room.")]


def rooms(
    prefix: Annotated[
        str, typer.Argument(metavar="[PREFIX]", help="Only names that begin so.")
    ] = "",
    limit: Limit = _EVERYTHING,
    as_json: AsJson = False,
    url: Url = HERE,
    key: Key = None,
    token: Token = None,
) -> None:
    """List rooms with somebody connected, to whatever node, and how many users are there.

    Takes the grant `members`; personal rooms are not listed.

    \b
    Examples:
      hubbub rooms
      hubbub rooms chat: --json
    """
    with reaching(url, key, token) as server:
        found = []
        for page in _room_pages(server, prefix, limit):
            for entry in page.rooms:
                if as_json:
                    show(json_line(entry))
                else:
                    found.append((entry.room, _count(entry.count)))
        if not as_json:
            table(("ROOM", "USERS"), found)


def _room_pages(server: Server, prefix: str, limit: int) -> Iterator[RoomsPage]:
    after, left = "", limit
    while left > 0:
        query = {"prefix": prefix, "after": after, "limit": min(left, _PAGE)}
        page = server.ask("GET", path("rooms"), RoomsPage, params=query)
        yield page
        if not page.more or not page.rooms:
            return
        after, left = page.rooms[-1].room, left - len(page.rooms)


def members(
    room: RoomName,
    limit: Limit = _EVERYTHING,
    as_json: AsJson = False,
    url: Url = HERE,
    key: Key = None,
    token: Token = None,
) -> None:
    """List who is in ROOM, by name.

    A user whose connection was lost a moment ago has 0 sessions. Takes the grant `members`.

    \b
    Examples:
      hubbub members lobby
      hubbub members lobby --json
    """
    with reaching(url, key, token) as server:
        found, counted = [], None
        for page in _member_pages(server, room, limit):
            if page.members is None:
                counted = page.count
                break
            for member in page.members:
                if as_json:
                    show(json_line(member))
                else:
                    info = "" if member.info is None else json_line(member.info)
                    found.append((member.user, str(member.sessions), info))
        else:
            if not as_json:
                table(("USER", "SESSIONS", "INFO"), found)
            return
        if counted is None:
            note(f"{room} keeps no presence: nobody knows who is there")
        elif as_json:
            show(json_line({"count": counted}))
        else:
            note(f"users in {room}: {counted}; too many to be listed, or the room only counts them")


def _member_pages(server: Server, room: str, limit: int) -> Iterator[MembersPage]:
    where, after, left = path("rooms", room_named(room), "members"), None, limit
    while left > 0:
        query: dict[str, str | int] = {"limit": min(left, _PAGE)}
        if after is not None:
            query["after"] = after
        page = server.ask("GET", where, MembersPage, params=query)
        yield page
        if not page.more or not page.members:
            return
        after, left = page.members[-1].user, left - len(page.members)


def history(
    room: RoomName,
    limit: Annotated[
        int, typer.Option(min=1, metavar="N", help="How many messages, the newest of them.")
    ] = 20,
    before: Annotated[
        int | None, typer.Option(min=0, metavar="SEQ", help="Only those before this number.")
    ] = None,
    after: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="SEQ", help="Only those after this number, the oldest of them."
        ),
    ] = None,
    as_json: AsJson = False,
    url: Url = HERE,
    key: Key = None,
    token: Token = None,
) -> None:
    """Show messages that ROOM still has, oldest first.

    Takes the grant `history`.

    \b
    Examples:
      hubbub history lobby
      hubbub history lobby --limit 1000 --json
      hubbub history lobby --before 43
      hubbub history lobby --after 42 --limit 10
    """
    with reaching(url, key, token) as server:
        pages = _Pages(server, room_named(room), limit, before)
        found = pages.older() if after is None else pages.newer(after)
        for page in found:
            for message in page.messages:
                if as_json:
                    show(json_line(message))
                else:
                    show(message_line({"room": room, **msgspec.to_builtins(message)}))


class _Pages:
    """Page by page, all of one log."""

    def __init__(self, server: Server, room: str, limit: int, before: int | None) -> None:
        self._server = server
        self._room = room
        self._path = path("rooms", room, "messages")
        self._left = limit
        self._before = before
        self._log: str | None = None

    def newer(self, after: int) -> Iterator[HistoryPage]:
        more = True
        while more and self._left > 0:
            page = self._page(after=after)
            more = page.more and bool(page.messages)
            if more:
                after = page.messages[-1].seq
            yield page

    def older(self) -> list[HistoryPage]:
        """They come newest first, and are shown the other way round."""
        pages = []
        while self._left > 0:
            page = self._page()
            pages.append(page)
            if not page.more or not page.messages:
                break
            self._before = page.messages[0].seq
        return pages[::-1]

    def _page(self, **place: int) -> HistoryPage:
        query: dict[str, str | int] = {"limit": min(self._left, _PAGE), **place}
        if self._before is not None:
            query["before"] = self._before
        if self._log is not None:
            query["log"] = self._log
        page = self._server.ask("GET", self._path, HistoryPage, params=query)
        if self._log is not None and page.log != self._log:
            note(f"{self._room} has begun another log meanwhile: this is what was read before")
            return HistoryPage(self._room, self._log, [], more=False)
        self._log = page.log
        self._left -= len(page.messages)
        return page


def _count(users: int | None) -> str:
    return "-" if users is None else str(users)
