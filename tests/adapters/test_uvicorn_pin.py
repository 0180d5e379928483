"""What adapters/transport overrides in uvicorn and websockets is no public interface of theirs.

So uvicorn is pinned exactly, and what its classes look like is written down here: an upgrade that
changes any of it fails, and whoever upgrades looks at our subclasses before changing these lines.
"""

import importlib
import importlib.metadata
import inspect
import pkgutil
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from websockets.protocol import Protocol
from websockets.server import ServerProtocol
from websockets.streams import StreamReader

import adapters.transport

ROOT = Path(__file__).parents[2]
THEIRS = ("uvicorn.", "websockets.")

RECORDED: dict[type, dict[str, str]] = {
    HttpToolsProtocol: {
        "__init__": (
            "(self, config: 'Config', server_state: 'ServerState', app_state: 'dict[str, Any]', "
            "_loop: 'asyncio.AbstractEventLoop | None' = None) -> 'None'"
        ),
        "_get_upgrade": "(self) -> 'bytes | None'",
        "_should_upgrade": "(self) -> 'bool'",
        "_should_upgrade_to_ws": "(self) -> 'bool'",
        "_start_asgi_task": (
            "(self, cycle: 'RequestResponseCycle', app: 'ASGI3Application') -> 'None'"
        ),
        "_unset_keepalive_if_required": "(self) -> 'None'",
        "_unsupported_upgrade_warning": "(self) -> 'None'",
        "connection_lost": "(self, exc: 'Exception | None') -> 'None'",
        "connection_made": "(self, transport: 'asyncio.Transport') -> 'None'",
        "data_received": "(self, data: 'bytes') -> 'None'",
        "eof_received": "(self) -> 'None'",
        "handle_websocket_upgrade": "(self) -> 'None'",
        "on_body": "(self, body: 'bytes') -> 'None'",
        "on_header": "(self, name: 'bytes', value: 'bytes') -> 'None'",
        "on_headers_complete": "(self) -> 'None'",
        "on_message_begin": "(self) -> 'None'",
        "on_message_complete": "(self) -> 'None'",
        "on_response_complete": "(self) -> 'None'",
        "on_url": "(self, url: 'bytes') -> 'None'",
        "pause_writing": "(self) -> 'None'",
        "resume_writing": "(self) -> 'None'",
        "send_400_response": "(self, msg: 'str') -> 'None'",
        "shutdown": "(self) -> 'None'",
        "timeout_keep_alive_handler": "(self) -> 'None'",
    },
    FlowControl: {
        "__init__": "(self, transport: asyncio.transports.Transport) -> None",
        "pause_reading": "(self) -> None",
        "resume_reading": "(self) -> None",
    },
    ServerProtocol: {"parse": "(self) -> 'Generator[None]'"},
    Protocol: {
        "data_to_send": "(self) -> 'list[bytes]'",
        "fail": "(self, code: 'CloseCode | int', reason: 'str' = '') -> 'None'",
        "parse": "(self) -> 'Generator[None]'",
        "receive_data": "(self, data: 'bytes | bytearray') -> 'None'",
        "recv_frame": "(self, frame: 'Frame') -> 'None'",
        "send_close": "(self, code: 'CloseCode | int | None' = None, reason: 'str' = '') -> 'None'",
    },
    StreamReader: {
        "__init__": "(self) -> 'None'",
        "at_eof": "(self) -> 'Generator[None, None, bool]'",
    },
}


def signature_of(cls: type, name: str) -> str | None:
    method = vars(cls).get(name)
    return str(inspect.signature(method)) if inspect.isfunction(method) else None


def our_classes() -> Iterator[type]:
    """The classes of adapters/transport that subclass something of theirs."""
    for module in pkgutil.iter_modules(adapters.transport.__path__, "adapters.transport."):
        for _, cls in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            ours = cls.__module__ == module.name
            if ours and any(base.__module__.startswith(THEIRS) for base in cls.__mro__):
                yield cls


def overridden(cls: type) -> dict[type, set[str]]:
    """What a class of ours defines anew, by the first base among theirs that has it."""
    found: dict[type, set[str]] = {}
    for name in vars(cls):
        for base in cls.__mro__[1:]:
            if base.__module__.startswith(THEIRS) and inspect.isfunction(vars(base).get(name)):
                found.setdefault(base, set()).add(name)
                break
    return found


def test_uvicorn_is_pinned_to_the_version_that_is_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (pin,) = (line for line in project["dependencies"] if re.match(r"uvicorn\b", line))
    assert pin == f"uvicorn=={importlib.metadata.version('uvicorn')}"


@pytest.mark.parametrize("cls", RECORDED, ids=lambda cls: cls.__name__)
def test_what_is_overridden_looks_as_it_did(cls: type) -> None:
    recorded = RECORDED[cls]
    assert {name: signature_of(cls, name) for name in recorded} == recorded


def test_everything_that_is_overridden_is_recorded() -> None:
    classes = list(our_classes())
    assert classes
    for cls in classes:
        for base, names in overridden(cls).items():
            assert names <= RECORDED.get(base, {}).keys(), (cls, base)


@pytest.mark.parametrize("cls", list(our_classes()), ids=lambda cls: cls.__name__)
def test_an_override_can_be_called_like_what_it_overrides(cls: type) -> None:
    for base, names in overridden(cls).items():
        for name in names:
            theirs = inspect.signature(vars(base)[name]).parameters.values()
            ours = inspect.signature(vars(cls)[name])
            positional = [p.name for p in theirs if p.kind is p.POSITIONAL_OR_KEYWORD]
            ours.bind(*positional)
            assert inspect.iscoroutinefunction(vars(cls)[name]) == inspect.iscoroutinefunction(
                vars(base)[name]
            )
