"""What `hubbub serve` does around the server: file descriptors, a key for trying, the greeting."""

import secrets
import socket
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

from entrypoints.bind import address, bind_problem, listen
from entrypoints.cli_token import Wish, mint, signing_key
from entrypoints.settings import Settings

_SPARE_FILES = 100  # listening sockets, logs, Redis, the page of a metrics scraper
_TRIAL_USER = "ann"
_TRIAL_SECONDS = 12 * 3_600


class FileLimit(NamedTuple):
    """How many files this process may open, before and after raising."""

    before: int
    now: int


def raise_file_limit(needed: int) -> FileLimit | None:
    """Let the process open as many files as it may; None where there is no such limit."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Where the hard limit is infinite the kernel has another one, which cannot be asked for.
    wanted = max(before, needed) if hard == resource.RLIM_INFINITY else hard
    if before != resource.RLIM_INFINITY and before < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (ValueError, OSError):
            return FileLimit(before, before)
    now = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return FileLimit(before, sys.maxsize if now == resource.RLIM_INFINITY else now)


def files_needed(settings: Settings) -> int:
    """Open files it takes to hold as many connections as allowed."""
    return settings.limits.connections + _SPARE_FILES


def file_warning(settings: Settings, files: FileLimit | None) -> str | None:
    """What to do when connections would run out of file descriptors, or None."""
    needed = files_needed(settings)
    if files is None or files.now >= needed:
        return None
    return (
        f"{settings.limits.connections} connections need about {needed} open files and this "
        f"process may open {files.now}: raise that (ulimit -n, LimitNOFILE=) or lower "
        "HUBBUB_LIMITS__CONNECTIONS"
    )


def operations_problem(settings: Settings) -> str | None:
    """Why the port for operations cannot be listened on, or None."""
    host, port = settings.operations.host, settings.operations.port
    options = ("HUBBUB_OPERATIONS__HOST", "HUBBUB_OPERATIONS__PORT")
    return None if port is None else bind_problem(host, port, options)


def listeners(settings: Settings) -> tuple[list[socket.socket], list[socket.socket] | None]:
    """Sockets for clients, and those for operations where they have a port of their own."""
    clients = listen(settings.host, settings.port)
    operations = settings.operations
    if operations.port is None:
        return clients, None
    return clients, listen(operations.host, operations.port)


def with_trial_token(settings: Settings) -> tuple[Settings, str | None]:
    """In open mode without a key: settings with one for this run, and a token made with it."""
    if settings.auth.mode != "open" or settings.auth.has_key:
        return settings, None
    settings = settings.with_hmac_secret(secrets.token_urlsafe(48))
    key = signing_key(settings, None, None)
    return settings, mint(Wish(_TRIAL_USER, _TRIAL_SECONDS), key, settings, time.time())


def greet(
    console: Console, settings: Settings, files: FileLimit | None, token: str | None, version: str
) -> None:
    """Print where the server is and what it runs with."""
    # soft_wrap: a token broken over two lines cannot be copied.
    title = Text.assemble(("hubbub ", "bold"), version, " at ", (_url(settings, "http"), "cyan"))
    console.print(title, soft_wrap=True)
    for label, fact in _facts(settings, files):
        console.print(Text.assemble((f"  {label:<9}", "dim"), fact), soft_wrap=True)
    if token is not None:
        secure = f"{_url(settings, 'ws')}/ws/secure?token={token}"
        for line in (
            f"a token of {_TRIAL_USER} for this run, good for 12 hours:",
            f"  {token}",
            "try it:",
            f"  {sys.executable} -m websockets '{secure}'",
        ):
            console.print(line, soft_wrap=True, highlight=False, markup=False)


def _url(settings: Settings, scheme: str) -> str:
    return address(scheme + "s" * settings.tls, settings.host, settings.port)


def _facts(settings: Settings, files: FileLimit | None) -> Iterator[tuple[str, str]]:
    limits = settings.limits
    yield "auth", _auth(settings)
    yield "api", _api(settings)
    yield "backend", settings.backend
    if settings.workers > 1:
        yield "workers", str(settings.workers)
    yield "pages", "on" if settings.show_pages else "off"
    if settings.operations.port is not None:
        yield "metrics", address("http", settings.operations.host, settings.operations.port)
    yield (
        "limits",
        f"{limits.connections} connections, {limits.rooms_per_connection} rooms each, "
        f"frames of {limits.frame_bytes} bytes, outbox of {limits.outbox_bytes} bytes",
    )
    messages = _rate(limits.messages_per_second, limits.messages_burst)
    commands = _rate(limits.commands_per_second, limits.commands_burst)
    yield "rates", f"publishes {messages}, other commands {commands}, for each connection"
    if settings.port == 0:
        yield "PORT", "a free one, told in the log"
    if files is not None:
        raised = f" (raised from {files.before})" if files.now > files.before else ""
        yield "files", f"{files.now} may be open{raised}"


def _auth(settings: Settings) -> str:
    if settings.auth.mode == "jwt":
        return "jwt: every connection needs a token"
    return "open: everybody may use any name (HUBBUB_AUTH__MODE=jwt asks for tokens)"


def _api(settings: Settings) -> str:
    keys = len(list(settings.backends()))
    if keys:
        return f"{keys} API {'key' if keys == 1 else 'keys'}, and tokens of users"
    if settings.api_open:
        return "open to this machine (HUBBUB_API_KEY asks for a key)"
    return "tokens of users only (HUBBUB_API_KEY lets a backend in)"


def _rate(per_second: float, burst: int) -> str:
    return f"{per_second:g}/s (burst {burst})" if per_second else "without limit"
