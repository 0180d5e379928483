"""The servers that are compared, and how each is spoken to."""

import platform
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from entrypoints.bench.plan import MARKER, Plan, Reply, Step
from tests.benchmarks.workshop import SERVERS, LeftOut, Workshop

ROOT = Path(__file__).parents[2]
_TEXT = '{"text":"%m"}'
_TEXT_BYTES = len(_TEXT) - len("%m") + MARKER
_PYTHON = f"Python {platform.python_version()}"


@dataclass(frozen=True, slots=True)
class Ready:
    """How to start one. In the command and in `config`, a file it is given, @PORT@ and @OTHER_PORT@
    are put in; @CONFIG@ is where that file is."""

    command: tuple[str, ...]
    version: str
    environ: Mapping[str, str] = field(default_factory=dict)
    config: str = ""


class Peer(NamedTuple):
    """`plan` says how it is entered and spoken to."""

    name: str
    about: str
    prepare: Callable[[Workshop], Ready]
    plan: Plan


def _hubbub(_: Workshop) -> Ready:
    return Ready(
        (sys.executable, "-m", "entrypoints.cli", "serve", "--port", "@PORT@"),
        f"hubbub {version('hubbub')}, uvicorn {version('uvicorn')}, {_PYTHON}",
        {
            "PYTHONPATH": str(ROOT),
            "HUBBUB_LIMITS__MESSAGES_PER_SECOND": "0",
            "HUBBUB_LIMITS__COMMANDS_PER_SECOND": "0",
        },
    )


def _uvicorn(app: str) -> tuple[str, ...]:
    command = (sys.executable, "-m", "uvicorn", f"{app}:app", "--port", "@PORT@")
    return (*command, "--log-level", "warning", "--app-dir", str(SERVERS))


def _tutorial(_: Workshop) -> Ready:
    versions = f"FastAPI {version('fastapi')}, uvicorn {version('uvicorn')}, {_PYTHON}"
    return Ready(_uvicorn("tutorial"), versions)


def _python_socketio(workshop: Workshop) -> Ready:
    packages = workshop.python_packages("python-socketio", "python-socketio==5.18.1")
    versions = f"python-socketio 5.18.1, uvicorn {version('uvicorn')}, {_PYTHON}"
    return Ready(_uvicorn("python_socketio_rooms"), versions, {"PYTHONPATH": str(packages)})


def _socketify(workshop: Workshop) -> Ready:
    packages = workshop.python_packages("socketify", "socketify==0.0.31", "orjson==3.13.0")
    return Ready(
        (sys.executable, str(SERVERS / "socketify_rooms.py"), "@PORT@"),
        f"socketify 0.0.31, {_PYTHON}",
        {"PYTHONPATH": str(packages)},
    )


def _node(package: str, release: str, script: str) -> Callable[[Workshop], Ready]:
    def prepare(workshop: Workshop) -> Ready:
        node = workshop.tool("node")
        modules = workshop.node_packages(package, f"{package}@{release}") / "node_modules"
        return Ready(
            (node, str(SERVERS / script), "@PORT@"),
            f"{package} {release}, Node {workshop.output(node, '--version')}",
            {"NODE_PATH": str(modules), "NODE_ENV": "production"},
        )

    return prepare


def _floor(workshop: Workshop) -> Ready:
    return Ready((str(workshop.c_program("floor.c")), "@PORT@"), "C, epoll")


def _centrifuge(workshop: Workshop) -> Ready:
    module = "github.com/centrifugal/centrifuge@v0.40.1"
    program = workshop.go_program("centrifuge", module, SERVERS / "centrifuge.go")
    return Ready((str(program), "@PORT@"), f"centrifuge v0.40.1, {_go_version(workshop)}")


def _nats(workshop: Workshop) -> Ready:
    try:
        module = "github.com/nats-io/nats-server/v2@v2.15.2"
        program = str(workshop.go_program("nats-server", module))
    except LeftOut as reason:
        program = _nats_without_go(workshop, str(reason))
    return Ready(
        (program, "-c", "@CONFIG@"),
        workshop.output(program, "--version"),
        config=(SERVERS / "nats.conf").read_text(),
    )


def _nats_without_go(workshop: Workshop, reason: str) -> str:
    try:
        return workshop.tool("nats-server")
    except LeftOut:
        pass
    try:
        packaged = workshop.debian_packages("nats-server-deb", "nats-server")
    except LeftOut as other:
        raise LeftOut(f"{reason}; {other}") from None
    return str(packaged / "usr/sbin/nats-server")


def _nchan(workshop: Workshop) -> Ready:
    root, program = Path("/"), "usr/sbin/nginx"
    module = "usr/lib/nginx/modules/ngx_nchan_module.so"
    if not ((root / program).exists() and (root / module).exists()):
        root = workshop.debian_packages("nchan", "nginx", "libnginx-mod-nchan")
        _without_system_folder(root / module)
    nginx = root / program
    config = (SERVERS / "nchan.conf").read_text().replace("@MODULE@", str(root / module))
    return Ready(
        (str(nginx), "-e", "stderr", "-p", ".", "-c", "@CONFIG@"),
        workshop.output(str(nginx), "-v").partition(": ")[2],
        config=config,
    )


def _without_system_folder(module: Path) -> None:
    """Nchan wants a folder that only an installed nginx has, and its directive for another one is
    always refused as a repetition. Our copy takes one of the same length beside its configuration.
    """
    module.write_bytes(module.read_bytes().replace(b"/var/lib/nginx/body", b"nchan-messages-here"))


def _go_version(workshop: Workshop) -> str:
    return workshop.output(workshop.tool("go"), "env", "GOVERSION").replace("go", "Go ")


_SOCKETIO = Plan(
    port=0,
    path="/socket.io/?EIO=4&transport=websocket&room=r%r",
    enter=(Step("await", "0{"), Step("say", "40"), Step("await", "40{")),
    publish=f'42["message",{_TEXT}]',
    replies=(Reply("2", "3"),),
)
_V1 = Plan(
    port=0,
    path="/v1/ws?user=u%d",
    enter=(
        Step("await", '"type":"connected"'),
        Step("say", '{"type":"join","id":1,"room":"r%r"}'),
        Step("await", '"type":"joined","id":1,'),
    ),
    publish=f'{{"type":"publish","room":"r%r","data":{_TEXT}}}',
    refusal='"type":"error"',
)
_CENTRIFUGE = Plan(
    port=0,
    path="/connection/websocket",
    enter=(
        Step("say", '{"id":1,"connect":{}}'),
        Step("await", '"id":1,'),
        Step("say", '{"id":2,"subscribe":{"channel":"r%r"}}'),
        Step("await", '"id":2,'),
    ),
    publish=f'{{"id":3,"publish":{{"channel":"r%r","data":{_TEXT}}}}}',
    replies=(Reply("{}", "{}"),),
    refusal='"error":{',
)
_NATS = Plan(
    port=0,
    enter=(
        Step("await", "INFO "),
        Step("say", 'CONNECT {"verbose":false,"pedantic":false}\r\nSUB r%r 1\r\nPING\r\n'),
        Step("await", "PONG"),
    ),
    publish=f"PUB r%r {_TEXT_BYTES}\r\n{_TEXT}\r\n",
    replies=(Reply("PING\r\n", "PONG\r\n"),),
    refusal="-ERR",
)
_BY_PATH = Plan(port=0, path="/r%r", publish=_TEXT)
_NCHAN = Plan(port=0, path="/pubsub?room=r%r", publish=_TEXT)
_TUTORIAL = Plan(port=0, path="/ws/rooms/r%r/u%d", publish=_TEXT, refusal='"type":"error"')

# The first is what the others are compared with.
PEERS = (
    Peer("hubbub", "the door /ws/rooms", _hubbub, _TUTORIAL),
    Peer("hubbub /v1/ws", "the main door", _hubbub, _V1),
    Peer("floor", "what any server must do at least, in C", _floor, _BY_PATH),
    Peer("uWebSockets", "C++, driven from Python by socketify", _socketify, _BY_PATH),
    Peer("nats-server", "Go, subjects as rooms", _nats, _NATS),
    Peer("centrifuge", "Go, what Centrifugo is made of", _centrifuge, _CENTRIFUGE),
    Peer("nchan", "C, in nginx", _nchan, _NCHAN),
    Peer("ws", "Node, a loop of sends", _node("ws", "8.23.0", "node_ws.js"), _BY_PATH),
    Peer("Socket.IO", "Node", _node("socket.io", "4.8.4", "socketio.js"), _SOCKETIO),
    Peer("tutorial", "FastAPI, a loop of sends", _tutorial, _TUTORIAL),
    Peer("python-socketio", "under uvicorn", _python_socketio, _SOCKETIO),
)
