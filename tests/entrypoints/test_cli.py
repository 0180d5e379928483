import asyncio
import json
import logging
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from rich.console import Console
from typer.main import get_command
from typer.testing import CliRunner, Result
from websockets.sync.client import connect

from adapters.tokens import authenticator, keys
from adapters.tokens.authenticator import JwtAuthenticator
from adapters.tokens.keys import hmac_key
from domain.grants import Grants
from entrypoints import cli_token, settings_sections
from entrypoints.bind import bind_problem
from entrypoints.cli import app
from entrypoints.cli_serve import (
    FileLimit,
    file_warning,
    files_needed,
    greet,
    raise_file_limit,
    with_trial_token,
)
from entrypoints.settings import AuthSettings, LimitSettings, Settings
from entrypoints.settings_sections import OperationsSettings

SECRET = "s3cret-" * 8
# For a process in an empty folder, without the settings of whoever runs the tests.
OUTSIDE = {name: text for name, text in os.environ.items() if "HUBBUB" not in name.upper()}
OUTSIDE["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])


@pytest.fixture(autouse=True)
def _untouched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty folder and environment; logging is put back as it was."""
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.upper().startswith("HUBBUB"):
            monkeypatch.delenv(name)
    loggers = [logging.getLogger(name) for name in ("", *logging.Logger.manager.loggerDict)]
    before = [(logger, logger.level, logger.handlers[:], logger.propagate) for logger in loggers]
    yield
    for logger, level, handlers, propagate in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers
        logger.propagate = propagate


def hubbub(*arguments: str, **environ: str) -> Result:
    return CliRunner().invoke(app, arguments, env=environ)


def refusal(*arguments: str, **environ: str) -> str:
    """What a command that refuses writes to stderr: text, and nothing on stdout."""
    result = hubbub(*arguments, **environ)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.stderr


# --- help --------------------------------------------------------------------------------------


def test_the_module_runs_as_a_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "entrypoints.cli", "--help"],
        env=OUTSIDE, capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert all(command in done.stdout for command in ("serve", "token", "check", "--version"))


def commands() -> list[str]:
    return sorted(getattr(get_command(app), "commands"))  # noqa: B009  (typer's own type hides it)


@pytest.mark.parametrize("command", commands())
def test_every_command_shows_examples(command: str) -> None:
    result = hubbub(command, "--help")
    assert result.exit_code == 0
    assert "Examples:\n" in result.stdout
    assert f"\n    hubbub {command}" in result.stdout


def test_the_version_is_told() -> None:
    result = hubbub("--version")
    assert result.exit_code == 0
    assert result.stdout.startswith("hubbub ")


def test_an_unknown_option_is_a_usage_error() -> None:
    assert "--prot" in refusal("serve", "--prot", "1")


# --- token -------------------------------------------------------------------------------------


def claims(printed: str, key: Any = SECRET, algorithm: str = "HS256") -> dict[str, Any]:
    """The claims in a printed token."""
    decoded: dict[str, Any] = jwt.decode(
        printed.rstrip("\n"), key, [algorithm], options={"verify_aud": False}
    )
    return decoded


def minted(*arguments: str, **environ: str) -> str:
    result = hubbub("token", *arguments, HUBBUB_AUTH__HMAC_SECRET=SECRET, **environ)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return result.stdout


def test_the_token_alone_is_printed_so_that_it_can_be_piped() -> None:
    before = int(time.time())
    printed = minted("ann")
    assert re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+\n", printed)
    found = claims(printed)
    assert found["sub"] == "ann"
    assert found["exp"] - found["iat"] == 3_600
    assert before <= found["iat"] <= time.time()
    assert "rooms" not in found


def test_a_token_says_what_it_was_told_and_the_server_believes_it() -> None:
    printed = minted(
        "ann", "--grant", "chat:*=join,publish", "--grant", "@*=publish", "--expires", "2d",
        "--info", '{"name": "Änn"}',
        HUBBUB_AUTH__ISSUER="us", HUBBUB_AUTH__AUDIENCE="hubbub",
    )  # fmt: skip
    server = JwtAuthenticator([hmac_key(SECRET.encode())], issuer="us", audience="hubbub")
    identity = asyncio.run(server.authenticate(printed.rstrip("\n")))
    assert identity.user == "ann"
    assert identity.grants == Grants({"chat:*": ["join", "publish"], "@*": ["publish"]})
    assert json.loads(identity.info) == {"name": "Änn"}
    found = claims(printed)
    assert found["exp"] - found["iat"] == 2 * 86_400


def test_two_tokens_can_be_revoked_apart() -> None:
    assert claims(minted("ann"))["jti"] != claims(minted("ann"))["jti"]


@pytest.mark.parametrize(
    ("duration", "expected"), [("30s", 30), ("15m", 900), ("12h", 43_200), ("3650d", 315_360_000)]
)
def test_durations_have_a_unit(duration: str, expected: int) -> None:
    assert cli_token.lifetime(duration) == expected


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["ann", "--expires", "1"], "write 30s, 15m, 12h or 7d"),
        (["ann", "--expires", "-1h"], "write 30s, 15m, 12h or 7d"),
        (["ann", "--expires", "0s"], "not between 1s and 3650d"),
        (["ann", "--expires", "3651d"], "not between 1s and 3650d"),
        (["ann", "--grant", "chat:*"], "write it like 'chat:*=join,publish'"),
        (["ann", "--grant", "chat:*=jion"], "unknown action 'jion'"),
        (["ann", "--grant", "chat:*="], "unknown action ''"),
        (["ann", "--grant", "a*b=join"], "'a*b' is no pattern"),
        (["ann", "--info", "{name:1}"], "--info is not JSON"),
        (["ann", "--info", "NaN"], "--info is not JSON"),
        (["an n"], "a user name is"),
        ([""], "a user name is"),
        (["ann", "--info", json.dumps("x" * 9_000)], "over 8192"),
        (["ann", "--secret-file", "nowhere"], "nowhere cannot be read: No such file"),
        (["ann", "--private-key-file", "nowhere"], "nowhere cannot be read: No such file"),
        (["ann", "--secret-file", "a", "--private-key-file", "b"], "not both"),
        (["ann", "--config", "nowhere.toml"], "nowhere.toml cannot be read"),
    ],
)
def test_a_token_that_cannot_be_is_refused(arguments: list[str], complaint: str) -> None:
    told = refusal("token", *arguments, HUBBUB_AUTH__HMAC_SECRET=SECRET)
    assert complaint in told
    assert told.startswith("hubbub: ")
    assert SECRET not in told


def test_without_a_key_no_token() -> None:
    assert "set HUBBUB_AUTH__HMAC_SECRET" in refusal("token", "ann")


def test_a_public_key_cannot_sign() -> None:
    Path("public.pem").write_text("a key")
    told = refusal("token", "ann", HUBBUB_AUTH__PUBLIC_KEY_FILE="public.pem")
    assert "pass the private one with --private-key-file" in told


def test_the_secret_in_a_file_ends_before_the_line_feed() -> None:
    Path("secret").write_text(SECRET + "\n")
    result = hubbub("token", "ann", "--secret-file", "secret")
    assert claims(result.stdout)["sub"] == "ann"


@pytest.mark.parametrize("content", ["short", "-----BEGIN PRIVATE KEY-----\n" + "x" * 40])
def test_a_file_without_a_good_secret_is_refused(content: str) -> None:
    Path("secret").write_text(content)
    assert "--secret-file secret holds" in refusal("token", "ann", "--secret-file", "secret")


PRIVATE_KEYS: dict[str, Callable[[], Any]] = {
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ES512": lambda: ec.generate_private_key(ec.SECP521R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}


def write_private_key(key: Any) -> None:
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    Path("key.pem").write_bytes(pem)


@pytest.mark.parametrize("algorithm", PRIVATE_KEYS)
def test_a_private_key_signs_with_the_algorithm_of_its_kind(algorithm: str) -> None:
    key = PRIVATE_KEYS[algorithm]()
    write_private_key(key)
    result = hubbub("token", "ann", "--private-key-file", "key.pem")
    assert claims(result.stdout, key.public_key(), algorithm)["sub"] == "ann"


def test_a_key_of_another_kind_is_refused() -> None:
    write_private_key(ec.generate_private_key(ec.SECP256K1()))
    told = refusal("token", "ann", "--private-key-file", "key.pem")
    assert "use RSA, P-256, P-384, P-521 or Ed25519" in told


def test_what_is_no_private_key_is_refused() -> None:
    Path("key.pem").write_text("no key")
    told = refusal("token", "ann", "--private-key-file", "key.pem")
    assert "does not hold an unencrypted private key" in told


def test_minting_and_verifying_agree_on_sizes() -> None:
    assert cli_token.MAX_TOKEN == authenticator.MAX_TOKEN
    assert settings_sections.MIN_SECRET == keys.MIN_SECRET


# --- check -------------------------------------------------------------------------------------


def test_check_prints_what_is_in_force_without_secrets() -> None:
    Path("hubbub.toml").write_text("port = 9000\n[limits]\nconnections = 5\n")
    result = hubbub("check", "--host", "127.0.0.2", HUBBUB_AUTH__HMAC_SECRET=SECRET)
    assert result.exit_code == 0, result.output
    assert 'host = "127.0.0.2"  # --host' in result.stdout
    assert "port = 9000  # hubbub.toml" in result.stdout
    assert 'hmac_secret = "**********"  # HUBBUB_AUTH__HMAC_SECRET' in result.stdout
    assert SECRET not in result.output
    assert tomllib.loads(result.stdout)["limits"]["connections"] == 5


def test_check_tells_every_problem_on_a_line_of_its_own() -> None:
    told = refusal("check", HUBBUB_PORT="x", HUBBUB_BACKEND="mysql")
    assert told.splitlines() == [
        "hubbub: HUBBUB_PORT must be a whole number, not 'x'",
        "hubbub: HUBBUB_BACKEND must be 'memory' or 'redis', not 'mysql'",
    ]


# --- serve: what it refuses --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--host", "0.0.0.0"], "--host is 0.0.0.0, which others can reach"),
        (["--log-level", "loud"], "--log-level must be"),
        (["--ssl-certfile", "nowhere"], "--ssl-certfile nowhere cannot be read"),
        (["--port", "70000"], "--port must be at most 65535, not 70000"),
        (["--host", "192.0.2.1", "--allow-anonymous"], "is no address of this machine"),
    ],
)
def test_serve_refuses_with_a_text_and_no_traceback(arguments: list[str], complaint: str) -> None:
    assert complaint in refusal("serve", *arguments)


def test_serve_suggests_the_setting_somebody_meant() -> None:
    assert refusal("serve", HUBBUB_PROT="1") == (
        "hubbub: HUBBUB_PROT is not a setting; did you mean HUBBUB_PORT?\n"
    )


def test_a_port_in_use_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = refusal("serve", "--port", str(port))
    assert told.startswith(f"hubbub: 127.0.0.1 port {port} is in use")
    assert bind_problem("127.0.0.1", port) is None


def test_a_port_for_operations_in_use_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        told = refusal("serve", "--port", "0", HUBBUB_OPERATIONS__PORT=port)
    assert told == (
        f"hubbub: 127.0.0.1 port {port} is in use: stop what listens there or choose another port "
        "with HUBBUB_OPERATIONS__PORT\n"
    )


def test_a_host_that_does_not_exist_is_told() -> None:
    assert "cannot be resolved" in str(bind_problem("nowhere.invalid", 0))


# --- serve: what it brings along ---------------------------------------------------------------


def greeting(settings: Settings, files: FileLimit | None = None, token: str | None = None) -> str:
    console = Console(width=40, force_terminal=False, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    with console.file:
        greet(console, settings, files, token, "1.2.3")
    return console.export_text()


def test_the_greeting_tells_where_and_with_what() -> None:
    settings = Settings(
        port=9000, limits=LimitSettings(connections=7, messages_per_second=0, frame_bytes=1000)
    )
    text = greeting(settings, FileLimit(1_024, 4_096))
    assert text.startswith("hubbub 1.2.3 at http://127.0.0.1:9000\n")
    for part in ("open: everybody", "memory", "7 connections", "frames of 1000 bytes",
                 "publishes without limit", "50/s (burst 100)",
                 "4096 may be open (raised from 1024)"):  # fmt: skip
        assert part in text


def test_the_greeting_tells_where_metrics_are_when_that_is_elsewhere() -> None:
    elsewhere = Settings(operations=OperationsSettings(port=9100))
    assert re.search(r"metrics +http://127\.0\.0\.1:9100\n", greeting(elsewhere))
    assert "metrics" not in greeting(Settings())


def test_the_greeting_of_a_server_with_tokens_shows_none() -> None:
    auth = AuthSettings.model_validate({"mode": "jwt", "hmac_secret": SECRET})
    settings, token = with_trial_token(Settings(auth=auth))
    assert token is None
    text = greeting(settings)
    assert "jwt: every connection needs a token" in text
    assert SECRET not in text
    assert "eyJ" not in text


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "open to this machine"),
        ({"host": "0.0.0.0", "allow_anonymous": True}, "tokens of users only"),
        ({"api_key": SECRET}, "1 API key, and"),
        (
            {
                "api_key": SECRET,
                "api_keys": [{"name": "a", "key": "the-key-of-another-app", "rooms": {}}],
            },
            "2 API keys, and",
        ),
    ],
)
def test_the_greeting_tells_who_may_use_the_http_api(settings: Any, told: str) -> None:
    text = greeting(Settings(**settings))
    assert f"api      {told}" in text
    assert SECRET not in text


def test_in_open_mode_a_key_is_made_and_a_token_printed_in_one_piece() -> None:
    settings, token = with_trial_token(Settings())
    assert token is not None
    assert settings.auth.hmac_bytes is not None
    identity = asyncio.run(
        JwtAuthenticator([hmac_key(settings.auth.hmac_bytes)]).authenticate(token)
    )
    assert identity.user == "ann"
    text = greeting(settings, token=token)
    assert f"\n  {token}\n" in text
    assert f"'ws://127.0.0.1:8000/ws/secure?token={token}'" in text
    assert with_trial_token(Settings())[1] != token


def test_a_configured_key_is_kept_in_open_mode() -> None:
    configured = Settings(auth=AuthSettings.model_validate({"hmac_secret": SECRET}))
    assert with_trial_token(configured) == (configured, None)


def test_too_few_files_for_the_connections_are_warned_of() -> None:
    settings = Settings(limits=LimitSettings(connections=1_000))
    needed = files_needed(settings)
    assert needed > 1_000
    assert file_warning(settings, FileLimit(needed, needed)) is None
    assert file_warning(settings, None) is None
    warning = str(file_warning(settings, FileLimit(256, needed - 1)))
    assert "HUBBUB_LIMITS__CONNECTIONS" in warning


def test_the_file_limit_is_raised_to_what_is_allowed() -> None:
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(before, 512), hard))
        files = raise_file_limit(1_000)
        assert files is not None
        assert files.before == min(before, 512)
        assert files.now >= before
        assert files.now == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))


# --- serve: the real thing ---------------------------------------------------------------------


def first_match(pattern: str, stream: IO[str] | None) -> str:
    """Read lines until one matches."""
    assert stream is not None
    seen = []
    for line in stream:
        seen.append(line)
        found = re.search(pattern, line)
        if found:
            return found[1]
    raise AssertionError("".join(seen))


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_server_answers_the_printed_token_and_ends_cleanly(stop: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "entrypoints.cli", "serve", "--port", "0"],
        env=OUTSIDE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        port = int(first_match(r"running on \w+://[\d.]+:(\d+)", process.stderr))
        url = first_match(r"'(ws://\S+)'", process.stdout)
        with connect(url.replace("PORT", str(port)), proxy=None) as websocket:
            assert json.loads(websocket.recv()) == {"type": "connected", "user_id": "ann"}
        process.send_signal(stop)
        _, log = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert "Traceback" not in log
    assert url.partition("token=")[2] not in log
