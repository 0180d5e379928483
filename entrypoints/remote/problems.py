"""What can go wrong between a command and a server, as one line for people and an exit code."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import typer


class Exit(IntEnum):
    """How a command ends that could not do its work."""

    FAILED = 1  # the server says no for a reason of its own
    USAGE = 2
    UNREACHABLE = 3
    REFUSED = 4  # the key or token is none, or may not do this
    BAD_NAME = 5
    STRANGER = 6  # what answers is no hubbub


class Problem(Exception):
    """`retry`: seconds after which the same may succeed, None if it will not."""

    def __init__(self, text: str, code: Exit, retry: float | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.code = code
        self.retry = retry


@contextmanager
def told() -> Iterator[None]:
    """Tell a problem as text instead of a traceback. Nobody is told that a pipe was
    closed: who closed it has seen enough."""
    try:
        yield
    except Problem as problem:
        typer.echo(f"hubbub: {problem.text}", err=True)
        raise typer.Exit(problem.code) from None
    except BrokenPipeError:
        # What is still buffered would fail once more when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
