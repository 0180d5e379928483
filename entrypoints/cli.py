"""The command `hubbub`."""

import logging.config
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from entrypoints.bind import bind_problem
from entrypoints.cli_bench import bench
from entrypoints.cli_publish import publish
from entrypoints.cli_rooms import history, members, rooms
from entrypoints.cli_serve import (
    file_warning,
    files_needed,
    greet,
    listeners,
    operations_problem,
    raise_file_limit,
    with_trial_token,
)
from entrypoints.cli_tail import tail
from entrypoints.cli_token import (
    CannotMint,
    Wish,
    lifetime,
    mint,
    public_info,
    rooms_claim,
    signing_key,
)
from entrypoints.cli_top import top
from entrypoints.cli_users import block, disconnect, kick, unblock
from entrypoints.logs import configure_logging
from entrypoints.settings import Settings, SettingsError, load_settings

_USAGE = 2

app = typer.Typer(
    name="hubbub",
    help="A self-hosted real-time rooms server over WebSocket.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    # A pretty traceback shows local variables, and those hold keys.
    pretty_exceptions_enable=False,
)

Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Settings file [default: ./hubbub.toml]."),
]
Host = Annotated[
    str | None, typer.Option(metavar="HOST", help="Address to listen on [default: 127.0.0.1].")
]
Port = Annotated[
    int | None, typer.Option(metavar="PORT", help="Port to listen on, 0 for any [default: 8000].")
]
AllowAnonymous = Annotated[
    bool | None,
    typer.Option("--allow-anonymous", help="Let strangers use any name from other machines."),
]


@app.command()
def serve(
    host: Host = None,
    port: Port = None,
    config: Config = None,
    allow_anonymous: AllowAnonymous = None,
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", help="Processes on this machine, over Redis [default: 1]."),
    ] = None,
    log_level: Annotated[
        str | None,
        typer.Option(
            metavar="LEVEL", help="debug, info, warning, error or critical [default: info]."
        ),
    ] = None,
    log_format: Annotated[
        str | None, typer.Option(metavar="FORMAT", help="console or json [default: console].")
    ] = None,
    ssl_certfile: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Certificate chain in PEM form, for TLS.")
    ] = None,
    ssl_keyfile: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Private key in PEM form, for TLS.")
    ] = None,
) -> None:
    """Run the server.

    \b
    Examples:
      hubbub serve
      hubbub serve --port 9000 --log-level debug
      HUBBUB_AUTH__MODE=jwt HUBBUB_AUTH__HMAC_SECRET=... hubbub serve --host 0.0.0.0
      hubbub serve --config /etc/hubbub.toml --log-format json
      HUBBUB_BACKEND=redis HUBBUB_REDIS_URL=redis://127.0.0.1 hubbub serve --workers 4
    """
    with _clear_errors():
        settings = load_settings(
            os.environ,
            config,
            {
                "host": host,
                "port": port,
                "allow_anonymous": allow_anonymous,
                "workers": workers,
                "log_level": log_level,
                "log_format": log_format,
                "ssl_certfile": ssl_certfile,
                "ssl_keyfile": ssl_keyfile,
            },
        )
        code = _serve(settings)
    raise typer.Exit(code)


app.command()(bench)
for command in (publish, tail, rooms, members, history, kick, disconnect, block, unblock, top):
    app.command()(command)


@app.command()
def token(
    user: Annotated[
        str, typer.Argument(metavar="USER", help="Name of the user, the token's `sub`.")
    ],
    grant: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN=ACTION,...",
            help="What the user may do in which rooms: join, publish, history, members, manage. "
            "May be given several times [default: all but manage, in all rooms].",
        ),
    ] = None,
    expires: Annotated[
        str, typer.Option(metavar="DURATION", help="How long it is good for: 30s, 15m, 12h, 7d.")
    ] = "1h",
    info: Annotated[
        str | None, typer.Option(metavar="JSON", help="What others are shown about the user.")
    ] = None,
    secret_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Sign with the HMAC secret in this file.")
    ] = None,
    private_key_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Sign with the PEM private key in it.")
    ] = None,
    config: Config = None,
) -> None:
    """Print a token for USER, and nothing else.

    Signs with the server's own secret (HUBBUB_AUTH__HMAC_SECRET) unless a key file is named.

    \b
    Examples:
      hubbub token ann
      hubbub token ann --grant 'chat:*=join,publish' --grant '@*=publish' --expires 12h
      hubbub token ann --info '{"name":"Ann"}' --private-key-file key.pem
    """
    with _clear_errors():
        settings = load_settings(os.environ, config, {})
        wish = Wish(user, lifetime(expires), rooms_claim(grant or []), public_info(info))
        key = signing_key(settings, secret_file, private_key_file)
        typer.echo(mint(wish, key, settings, time.time()))


@app.command()
def check(
    config: Config = None,
    host: Host = None,
    port: Port = None,
    allow_anonymous: AllowAnonymous = None,
) -> None:
    """Check the configuration and print what is in force, secrets hidden.

    The output has the form of a settings file; comments tell who decided what.

    \b
    Examples:
      hubbub check
      hubbub check --config /etc/hubbub.toml
    """
    from entrypoints.server import build_server

    with _clear_errors():
        overrides = {"host": host, "port": port, "allow_anonymous": allow_anonymous}
        settings = load_settings(os.environ, config, overrides)
        # What only shows when the parts are put together, like a key of the wrong kind.
        build_server(settings)
        for line in settings.describe():
            typer.echo(line)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hubbub {_version()}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    pass


def _serve(settings: Settings) -> int:
    # The server is a large import that the other commands do without.
    from entrypoints.server import build_server
    from entrypoints.workers import Workers

    problem = bind_problem(settings.host, settings.port) or operations_problem(settings)
    if problem is not None:
        raise SettingsError(problem)
    files = raise_file_limit(files_needed(settings))
    settings, trial_token = with_trial_token(settings)
    configure_logging(settings.log_level, settings.log_format)
    server = build_server(settings)  # also with workers: what is wrong is told once, and here
    greet(Console(), settings, files, trial_token, _version())
    warning = file_warning(settings, files)
    if warning is not None:
        logging.getLogger("hubbub").warning("%s", warning)
    if settings.workers > 1:
        return Workers(settings, *listeners(settings)).run()
    # uvicorn repeats the Ctrl-C it was stopped with once everything is closed.
    with suppress(KeyboardInterrupt):
        server.run()
    return server.exit_code


@contextmanager
def _clear_errors() -> Iterator[None]:
    """Tell problems as text instead of a traceback, and exit with 2."""
    try:
        yield
        return
    except SettingsError as error:
        problems = error.problems
    except CannotMint as error:
        problems = (str(error),)
    for problem in problems:
        typer.echo(f"hubbub: {problem}", err=True)
    raise typer.Exit(_USAGE)


def _version() -> str:
    try:
        return installed_version("hubbub")
    except PackageNotFoundError:
        return "(not installed)"


def main() -> None:
    """Run the command line."""
    try:
        app(prog_name="hubbub")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
