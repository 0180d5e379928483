"""What all commands share that talk to a running server: where it is, and what to show it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from entrypoints.remote.problems import told
from entrypoints.remote.server import Server, read_target

HERE = "http://127.0.0.1:8000"

Url = Annotated[
    str, typer.Option("--url", envvar="HUBBUB_URL", metavar="URL", help="Where the server is.")
]
Key = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        envvar="HUBBUB_API_KEY",
        metavar="KEY",
        show_default=False,
        help="API key. Others on this machine can read it in the list of processes: rather put it "
        "into the variable.",
    ),
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token",
        envvar="HUBBUB_TOKEN",
        metavar="JWT",
        show_default=False,
        help="Token of a user, which counts before a key. The same goes for it.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Write one JSON object a line.")]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="What the user is told.")]
Limit = Annotated[int, typer.Option(min=1, metavar="N", help="How many at most.")]


@contextmanager
def reaching(url: str, key: str | None, token: str | None) -> Iterator[Server]:
    """A server to talk to; what goes wrong meanwhile ends the command with a line that says so."""
    with told(), Server(read_target(url, key, token)) as server:
        yield server
