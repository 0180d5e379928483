"""`hubbub publish`: one message, or one for each line that is read."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Annotated

import typer
from rich.console import Console
from rich.progress import Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from entrypoints.cli_remote import HERE, AsJson, Key, Token, Url, reaching
from entrypoints.remote.lines import json_line, note, show
from entrypoints.remote.problems import Exit, Problem
from entrypoints.remote.publishing import MAX_KEY, Done, Publisher, Wish, body_of, checked
from entrypoints.remote.server import room_named, user_named

_FROM_STDIN = "-"
_MAX_LINE = 16 * 1024 * 1024  # bytes; how much a server takes is its own business
_DIGITS = 20  # and a dash, of the number of a line


def publish(
    room: Annotated[str, typer.Argument(metavar="ROOM", help="Name of the room.")],
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="The message in JSON; - reads one a line.")
    ],
    text: Annotated[
        bool,
        typer.Option("--text", help='DATA is plain text, sent as {"text": DATA} as chats do.'),
    ] = False,
    once: Annotated[
        str | None,
        typer.Option(
            "--key",
            metavar="KEY",
            help="Repeated with the same key within five minutes it is the same message; with -, "
            "KEY and the number of the line.",
        ),
    ] = None,
    ephemeral: Annotated[
        bool, typer.Option("--ephemeral", help="For those who are there now; kept nowhere.")
    ] = False,
    sender: Annotated[
        str | None,
        typer.Option("--from", metavar="USER", help="In whose name; a token has its own."),
    ] = None,
    as_json: AsJson = False,
    url: Url = HERE,
    key: Key = None,
    token: Token = None,
) -> None:
    """Publish to ROOM and tell the number that the message got.

    What can be tried again is tried again, with a key, so that nothing is published twice. Takes
    the grant `publish`.

    \b
    Examples:
      hubbub publish lobby '{"text": "hello"}'
      hubbub publish lobby --text hello --from ann
      hubbub publish orders '{"id": 4711}' --key order-4711
      tail -f app.log | hubbub publish logs --text -
    """
    with reaching(url, key, token) as server:
        name = room_named(room)
        speaker = None if sender is None else user_named(sender)
        wish = checked(Wish(name, text, once, ephemeral, speaker))
        publisher = Publisher(server, wish)
        if data == _FROM_STDIN:
            _Lines(publisher, wish, as_json=as_json).publish(sys.stdin.buffer)
        else:
            done = publisher(body_of(wish, data, "DATA"), once)
            show(json_line(done) if as_json else _told(done))


def _told(done: Done) -> str:
    if done.seq is None:
        return f"published to {done.room}, for those who are there"
    if done.duplicate:
        return f"published to {done.room} before, as number {done.seq}"
    return f"published to {done.room} as number {done.seq}"


class _Lines:
    """One message a line; empty lines are none."""

    def __init__(self, publisher: Publisher, wish: Wish, *, as_json: bool) -> None:
        """Raises Problem."""
        if wish.key is not None and len(wish.key) > MAX_KEY - _DIGITS:
            text = f"--key takes {MAX_KEY - _DIGITS} characters where a number follows"
            raise Problem(text, Exit.USAGE)
        self._publisher = publisher
        self._wish = wish
        self._as_json = as_json
        self._count = 0
        self._last: int | None = None
        self._in_flight = False

    def publish(self, lines: IO[bytes]) -> None:
        """However it ends, it is told how far it came."""
        try:
            with _progress(self._wish.room) as advance:
                for number, line in enumerate(_read(lines), 1):
                    if line.strip():
                        self._one(number, line)
                        advance()
        except KeyboardInterrupt:
            self._tell(", and perhaps one more" if self._in_flight else "")
            raise
        except BaseException:
            self._tell()
            raise
        self._tell()

    def _one(self, number: int, line: bytes) -> None:
        self._in_flight = True
        done = _publish_line(self._publisher, self._wish, number, line)
        self._count, self._last = self._count + 1, done.seq
        self._in_flight = False
        if self._as_json:
            show(json_line(done))

    def _tell(self, perhaps: str = "") -> None:
        messages = "message" if self._count == 1 else "messages"
        last = "" if self._last is None else f", the last one as number {self._last}"
        note(f"{self._count} {messages} published to {self._wish.room}{last}{perhaps}")


def _read(lines: IO[bytes]) -> Iterator[bytes]:
    while line := lines.readline(_MAX_LINE):
        if len(line) == _MAX_LINE and not line.endswith(b"\n"):
            raise Problem(f"a line is longer than {_MAX_LINE} bytes", Exit.USAGE)
        yield line


def _publish_line(publisher: Publisher, wish: Wish, number: int, line: bytes) -> Done:
    where = f"line {number}"
    try:
        given = line.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise Problem(f"{where} is not UTF-8 text", Exit.USAGE) from None
    key = None if wish.key is None else f"{wish.key}-{number}"
    try:
        return publisher(body_of(wish, given, where), key)
    except Problem as problem:
        text = problem.text if problem.text.startswith(where) else f"{where}: {problem.text}"
        raise Problem(text, problem.code) from None


@contextmanager
def _progress(room: str) -> Iterator[Callable[[], None]]:
    """Shows how many there are, where somebody watches. Call what it gives once for each."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.completed:.0f} published to {task.description}"), _Rate())
    bars = Progress(
        *columns,
        console=console,
        transient=True,
        disable=not console.is_terminal,
        redirect_stdout=False,  # what is written there is for somebody else
        redirect_stderr=False,
    )
    with bars:
        task = bars.add_task(room, total=None)
        yield lambda: bars.advance(task)


class _Rate(ProgressColumn):
    """Messages a second, over all of it."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.completed / (task.elapsed or 1):.0f}/s")
