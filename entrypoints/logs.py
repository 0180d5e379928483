"""Logging: one configuration for us, uvicorn and the libraries, without credentials.

What is logged may come from strangers: paths, headers, exception texts. The last step before a
line is written takes credentials out and makes control characters visible, so that neither a
careless call nor a hostile client can get past it.
"""

import json
import logging
import logging.config
import re
from datetime import UTC, datetime
from typing import Any, Literal

REDACTED = "[redacted]"

# What a credential begins with, the whole of it from there on, and what is left of it. A pattern
# cannot fail late, so that a long line costs no more than its length.
_FORMS = (
    (r"token", r"(token=)[^&\s\"'#]+", rf"\1{REDACTED}"),
    (r"token", r"(token\\*[\"']\s*:\s*\\*[\"'])[^\"'\\]*", rf"\1{REDACTED}"),
    (r"api[_-]?key", r"(api[_-]?key\\*[\"']?\s?[:=,]\s?b?[\"']?)[^\s\"',&]+", rf"\1{REDACTED}"),
    (r"bearer", r"(bearer\.)[\w.~+/=-]+", rf"\1{REDACTED}"),
    (r"bearer", r"(bearer(?:\s|%20|\+))[^\s\"',\\]+", rf"\1{REDACTED}"),
    (
        r"authorization",
        r"(authorization[\"']?\s?[:=,]\s?b?[\"']?basic )[\w+/=]+",
        rf"\1{REDACTED}",
    ),
    # Userinfo of a URL: redis://user:password@host.
    (r"://", r"(://)[^\s\"']{1,256}@", rf"\1{REDACTED}@"),
    # A JWT wherever it stands: {" in base64, then anything a token is made of.
    (r"eyJ", r"eyJ[\w-]{8,}(?:\.[\w-]*)*", REDACTED),
)
_CREDENTIALS = [(re.compile(whole, re.IGNORECASE), left) for _, whole, left in _FORMS]
# Nearly every line is without any of these, and one look finds that out.
_SUSPECT = re.compile("|".join(dict.fromkeys(begin for begin, _, _ in _FORMS)), re.IGNORECASE)

# C0 and C1 controls, DEL, line and paragraph separators, direction overrides, lone surrogates.
_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_INDENT = "    "
_FIELDS = "fields"  # of a record
# Of the logging module, which the documentation of it names for this: where a call stands, and in
# which thread, process and task.
_UNUSED = ("_srcfile", "logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks")
_MAX_LINE = 16_384  # characters of a message; what strangers send may be longer than is of use


def redact(text: str) -> str:
    """Take everything out that looks like a credential."""
    if not _SUSPECT.search(text):
        return text
    for pattern, replacement in _CREDENTIALS:
        text = pattern.sub(replacement, text)
    return text


def visible(text: str) -> str:
    """Write control characters out, so that no text can end its line or move the cursor."""
    return _CONTROL.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return _SHORT.get(match[0]) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def fields(**known: object) -> dict[str, object]:
    """The argument `extra` of a log call: what a program looks for in the line. In the format
    `json` each of them is a field of its own; `console` shows the connection only."""
    return {_FIELDS: known}


class SafeFormatter(logging.Formatter):
    """Hands the parts of a record on, each of them safe to print."""

    def message(self, record: logging.LogRecord, about: str = "") -> str:
        """The message on one line, behind what it is about."""
        try:
            text = record.getMessage()
        except (TypeError, ValueError, KeyError):
            # Left to logging, this prints the arguments as they are.
            text = f"{record.msg} (its arguments do not fit and are left out)"
        return self._line(about + text)

    def _line(self, text: str) -> str:
        return visible(redact(_cut(text)))

    def fields(self, record: logging.LogRecord) -> dict[str, object]:
        """What was handed in as `fields`."""
        known: dict[str, object] = getattr(record, _FIELDS, {})
        return {
            name: self._line(value) if isinstance(value, str) else value
            for name, value in known.items()
        }

    def trace(self, record: logging.LogRecord) -> list[str]:
        """The lines of the traceback, none if there is none."""
        if not record.exc_info:
            return []
        return [visible(line) for line in redact(self.formatException(record.exc_info)).split("\n")]


class ConsoleFormatter(SafeFormatter):
    """`12:00:00 INFO    logger: [connection] message`; a traceback follows indented, so that no
    line of an exception's text can pass for a record."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as text of one or more lines."""
        connection = getattr(record, _FIELDS, {}).get("connection")
        about = "" if connection is None else f"[{connection}] "
        when = _time_of_day(record.created)
        head = f"{when} {record.levelname:<8}{record.name}: {self.message(record, about)}"
        return "\n".join([head, *(_INDENT + line for line in self.trace(record))])


class JsonFormatter(SafeFormatter):
    """One JSON object on one line: ts (RFC 3339, UTC), level, logger, message, the fields of the
    line (connection, door, user, code and the like), and trace."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        entry: dict[str, object] = {
            "ts": when.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self.message(record),
            **self.fields(record),
        }
        trace = self.trace(record)
        if trace:
            entry["trace"] = trace
        return json.dumps(entry)


def _time_of_day(when: float) -> str:
    """In UTC. `strftime` costs as much as the rest of a line."""
    minutes, seconds = divmod(int(when), 60)
    return f"{minutes // 60 % 24:02}:{minutes % 60:02}:{seconds:02}"


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_LINE else f"{text[:_MAX_LINE]} (cut)"


def configure_logging(level: str, fmt: Literal["console", "json"]) -> None:
    """Log like this in this process, and gather nothing for a record that no line shows."""
    logging.config.dictConfig(logging_config(level, fmt))
    for unused in _UNUSED:
        setattr(logging, unused, None)


def logging_config(level: str, fmt: Literal["console", "json"]) -> dict[str, Any]:
    """A configuration for logging.config.dictConfig, and for uvicorn as its `log_config`.

    Everything goes to stderr; stdout belongs to what commands print.
    """
    formatter = {"console": ConsoleFormatter, "json": JsonFormatter}[fmt]
    own = {"level": level.upper(), "handlers": [], "propagate": True}
    # At debug level they log what they read, frame by frame.
    quiet = {"level": max(level.upper(), "INFO", key=_severity), "propagate": True}
    # At info level they log every address, with whatever stands in its query.
    discreet = {"level": max(level.upper(), "WARNING", key=_severity), "propagate": True}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"safe": {"()": formatter}},
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "formatter": "safe",
                "stream": "ext://sys.stderr",
            }
        },
        "root": {"level": level.upper(), "handlers": ["stderr"]},
        "loggers": {
            "uvicorn": own,
            "uvicorn.error": own,
            "uvicorn.access": own,
            "websockets": quiet,
            "asyncio": quiet,
            "httpx": discreet,
            "httpcore": discreet,
        },
    }


def _severity(level: str) -> int:
    return logging.getLevelNamesMapping()[level]
