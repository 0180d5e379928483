import io
import json
import logging
import logging.config
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uvicorn import Config

from entrypoints import logs
from entrypoints.logs import (
    ConsoleFormatter,
    JsonFormatter,
    configure_logging,
    logging_config,
    redact,
)

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl-_A"
CANARY = "c4nary-0paque"

FORMATTERS = [ConsoleFormatter, JsonFormatter]
both = pytest.mark.parametrize("formatter", FORMATTERS)


def record(message: str, *arguments: object, exc_info: Any = None) -> logging.LogRecord:
    return logging.LogRecord("hubbub.test", logging.INFO, "f.py", 1, message, arguments, exc_info)


def failure(make: Callable[[], object]) -> Any:
    """The exc_info of a call that raises."""
    try:
        make()
    except Exception as error:
        return type(error), error, error.__traceback__
    raise AssertionError("it should have raised")


LEAKS = [
    f"GET /ws/secure?token={JWT} HTTP/1.1",
    f"GET /ws/secure?x=1&token={CANARY}&y=2 HTTP/1.1",
    f"GET /ws/secure?TOKEN={CANARY}",
    f"GET /v1/events?access_token={CANARY}#end",
    f"sec-websocket-protocol: hubbub.v1, bearer.{JWT}",
    f"('hubbub.v1', 'bearer.{CANARY}')",
    f"Authorization: Bearer {JWT}",
    f"authorization: bearer {CANARY}==",
    f"(b'authorization', b'Bearer {CANARY}')",
    f"Authorization: Basic {CANARY.replace('-', '')}",
    f"Bearer%20{CANARY}",
    f'{{"type":"auth","token":"{CANARY}"}}',
    f"{{'type': 'auth', 'token': '{CANARY}'}}",
    repr(f'{{"token": "{CANARY}"}}'),
    json.dumps(f'{{"token": "{CANARY}"}}'),
    f"x-api-key: {CANARY}",
    f"HUBBUB_API_KEY={CANARY}",
    f"(b'x-api-key', b'{CANARY}')",
    f"redis://hubbub:{CANARY}@redis.example:6379/0 refused",
    f"redis://hubbub:p/w@{CANARY}@redis.example:6379/0 refused",
    f"what is {JWT}?",
    f"what is {JWT.rpartition('.')[0]}. then",
]


@both
@pytest.mark.parametrize("text", LEAKS)
def test_credentials_are_taken_out(formatter: type[logging.Formatter], text: str) -> None:
    for made in (record(text), record("%s", text), record("%r", text)):
        line = formatter().format(made)
        assert CANARY not in line
        assert CANARY.replace("-", "") not in line
        assert JWT.split(".")[1] not in line
        assert "[redacted]" in line


@both
def test_credentials_are_taken_out_of_tracebacks(formatter: type[logging.Formatter]) -> None:
    def fail() -> None:
        try:
            raise KeyError(f"?token={CANARY}")
        except KeyError as error:
            raise ValueError(f"Bearer {JWT}") from error

    line = formatter().format(record("it failed", exc_info=failure(fail)))
    assert "ValueError" in line
    assert "KeyError" in line
    assert CANARY not in line
    assert JWT not in line


@pytest.mark.parametrize(
    "text",
    ["room chat:1 has 3 members", "GET /metrics?x=1", "refused origin https://a.example:8443",
     "ann@example.com wrote", "token_expired: the token has expired", "key_conflict"],
)  # fmt: skip
def test_what_is_no_credential_is_left_alone(text: str) -> None:
    assert redact(text) == text


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(before=st.text(max_size=20), after=st.text(max_size=20))
def test_a_token_does_not_hide_between_other_text(before: str, after: str) -> None:
    assert JWT not in redact(f"{before}{JWT}{after}")


CONTROLS = ["\n", "\r", "\r\n", "\x00", "\x1b[2J", "\x7f", "\x85", "\u2028", "\u202e", "\ud800"]


@both
@pytest.mark.parametrize("control", CONTROLS, ids=ascii)
def test_a_message_cannot_end_its_line(formatter: type[logging.Formatter], control: str) -> None:
    forged = f"left{control}12:00:00 INFO    hubbub: ann is an admin"
    line = formatter().format(record("user %s", forged))
    assert len(line.splitlines()) == 1
    assert control not in line


@both
def test_a_logger_can_write_what_is_no_text_at_all(formatter: type[logging.Formatter]) -> None:
    line = formatter().format(record("%s", "".join(map(chr, range(0xD7F0, 0xE010)))))
    assert line.encode()


def test_a_console_traceback_is_indented_so_that_no_line_passes_for_a_record() -> None:
    def fail() -> None:
        raise ValueError("oops\n12:00:00 INFO    hubbub: ann is an admin\x1b[2J")

    text = ConsoleFormatter().format(record("it failed", exc_info=failure(fail)))
    first, *rest = text.split("\n")
    assert first.endswith("it failed")
    assert len(rest) > 2
    assert all(line.startswith("    ") for line in rest)
    assert "\x1b" not in text


def test_json_is_one_object_on_one_line() -> None:
    def fail() -> None:
        raise ValueError("oops\nagain")

    line = JsonFormatter().format(record('say "%s"', "hi\nthere", exc_info=failure(fail)))
    entry = json.loads(line)
    assert "\n" not in line
    assert entry["message"] == 'say "hi\\nthere"'
    assert entry["level"] == "info"
    assert entry["logger"] == "hubbub.test"
    assert entry["ts"].endswith("Z")
    assert entry["trace"][-2:] == ["ValueError: oops", "again"]


@both
def test_arguments_that_do_not_fit_are_left_out(formatter: type[logging.Formatter]) -> None:
    line = formatter().format(record("%d members in %s", CANARY))
    assert "%d members" in line
    assert CANARY not in line


@both
def test_a_message_of_any_length_is_cut(formatter: type[logging.Formatter]) -> None:
    assert len(formatter().format(record("%s", "x" * 1_000_000))) < 20_000


# --- the configuration -------------------------------------------------------------------------


@contextmanager
def configured(config: dict[str, Any]) -> Iterator[io.StringIO]:
    """Apply a configuration with its output caught, and put logging back as it was."""
    names = ["", *config["loggers"]]
    before = [
        (logger, logger.level, list(logger.handlers), logger.propagate)
        for logger in map(logging.getLogger, names)
    ]
    output = io.StringIO()
    config["handlers"]["stderr"]["stream"] = output
    try:
        logging.config.dictConfig(config)
        yield output
    finally:
        for logger, level, handlers, propagate in before:
            logger.setLevel(level)
            logger.handlers[:] = handlers
            logger.propagate = propagate


FORMATS: list[Literal["console", "json"]] = ["console", "json"]


@pytest.mark.parametrize("fmt", FORMATS)
def test_ours_and_uvicorns_records_are_written_once_and_clean(
    fmt: Literal["console", "json"],
) -> None:
    with configured(logging_config("info", fmt)) as output:
        logging.getLogger("hubbub.gate").info("hello")
        logging.getLogger("uvicorn.error").info("started")
        logging.getLogger("uvicorn.access").info(
            '%s - "%s %s HTTP/%s" %d', "127.0.0.1:1", "GET", f"/ws?token={CANARY}", "1.1", 200
        )
        logging.getLogger("hubbub.gate").debug("not shown")
    lines = output.getvalue().splitlines()
    assert len(lines) == 3
    assert CANARY not in output.getvalue()
    assert "/ws?token=[redacted] HTTP/1.1" in lines[2]


def test_nothing_is_gathered_that_no_line_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    for unused in logs._UNUSED:  # and put back afterwards
        monkeypatch.setattr(logging, unused, getattr(logging, unused, None), raising=False)
    found: list[logging.LogRecord] = []
    logger = logging.getLogger("hubbub.gate")
    with configured(logging_config("info", "console")):
        configure_logging("info", "console")
        monkeypatch.setattr(logging.getLogger().handlers[0], "emit", found.append)
        logger.info("hello")
    (record,) = found
    assert (record.thread, record.process, record.processName) == (None, None, None)
    assert record.funcName == "(unknown function)"


def test_libraries_do_not_log_frames_at_debug_level() -> None:
    with configured(logging_config("debug", "console")) as output:
        logging.getLogger("websockets.server").debug("< TEXT secret")
        logging.getLogger("hubbub").debug("shown")
    assert "shown" in output.getvalue()
    assert "secret" not in output.getvalue()


def test_libraries_do_not_log_addresses() -> None:
    with configured(logging_config("debug", "console")) as output:
        logging.getLogger("httpx").info("GET https://id.example/keys?key=secret")
        logging.getLogger("httpcore.http11").debug("headers secret")
        logging.getLogger("httpx").warning("shown")
    assert "shown" in output.getvalue()
    assert "secret" not in output.getvalue()


def test_a_higher_level_than_info_holds_for_libraries_too() -> None:
    with configured(logging_config("error", "json")) as output:
        logging.getLogger("asyncio").warning("not shown")
        logging.getLogger("uvicorn.error").warning("not shown")
        logging.getLogger("asyncio").error("shown")
    assert output.getvalue().count("\n") == 1


def test_uvicorn_takes_the_configuration() -> None:
    config = logging_config("warning", "json")
    with configured(config) as output:
        Config(lambda: None, log_config=config)
        logging.getLogger("uvicorn.error").warning("from uvicorn")
    assert json.loads(output.getvalue())["logger"] == "uvicorn.error"
