"""Fetches and builds the servers hubbub is compared with.

Everything goes into one folder, by the ordinary client of each registry; nothing is installed into
the system, and nothing is fetched twice.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from entrypoints.bench.compile import NotCompiled, build

SERVERS = Path(__file__).with_name("servers")
_DEADLINE = 1_200  # seconds; a build in Go on a small machine takes minutes


class LeftOut(Exception):
    """This server cannot be had here; the text says why."""


class Workshop:
    """`folder` keeps what was made; `say` is told what takes long."""

    def __init__(
        self, folder: Path, environ: Mapping[str, str], say: Callable[[str], None]
    ) -> None:
        self.folder = folder
        self._environ = environ
        self._say = say
        folder.mkdir(parents=True, exist_ok=True)

    def tool(self, name: str) -> str:
        """Where a command is. Raises LeftOut."""
        found = shutil.which(name, path=self._environ.get("PATH"))
        if found is None:
            raise LeftOut(f"{name} is not on PATH")
        return found

    def c_program(self, name: str) -> Path:
        try:
            return build(SERVERS / name, self.folder, self._environ)
        except NotCompiled as reason:
            raise LeftOut(str(reason)) from None

    def python_packages(self, name: str, *requirements: str) -> Path:
        """A folder for PYTHONPATH with these packages."""

        def install(folder: Path) -> None:
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder)]
            self._do([*pip, *requirements])

        return self._made(name, requirements, install)

    def node_packages(self, name: str, *packages: str) -> Path:
        """A folder that holds node_modules with these packages."""
        npm = self.tool("npm")

        def install(folder: Path) -> None:
            quiet = ["--no-audit", "--no-fund", "--no-save", "--ignore-scripts"]
            self._do([npm, "install", "--prefix", str(folder), *quiet, *packages])

        return self._made(name, packages, install)

    def go_program(self, name: str, module: str, source: Path | None = None) -> Path:
        """A program built from a module (`path@version`), or from a source that uses it."""
        go = self.tool("go")

        def install(folder: Path) -> None:
            if source is None:
                self._do([go, "install", module], GOBIN=str(folder))
                return
            shutil.copy(source, folder / "main.go")
            self._do([go, "mod", "init", "peer"], folder)
            self._do([go, "get", module], folder)
            self._do([go, "build", "-o", name, "."], folder)

        text = "" if source is None else source.read_text()
        return self._made(name, (module, text), install) / name

    def debian_packages(self, name: str, *packages: str) -> Path:
        """A folder with the files of these packages, as they would lie under /."""
        apt, dpkg = self.tool("apt-get"), self.tool("dpkg-deb")

        def install(folder: Path) -> None:
            self._do([apt, "download", *packages], folder)
            for package in folder.glob("*.deb"):
                self._do([dpkg, "--extract", str(package), str(folder)])

        return self._made(name, packages, install)

    def output(self, *command: str) -> str:
        """What a command prints, on either of its outputs."""
        done = subprocess.run(
            command, env=self._environ, capture_output=True, text=True, timeout=60, check=False
        )
        return (done.stdout + done.stderr).strip()

    def _made(self, name: str, recipe: Sequence[str], make: Callable[[Path], None]) -> Path:
        """The folder of that name, made unless it was by the same recipe. Raises LeftOut."""
        folder, stamp = self.folder / name, self.folder / f"{name}.made"
        made_by = json.dumps([*recipe, sys.version])
        if not stamp.exists() or stamp.read_text() != made_by:
            self._say(f"fetching {name} (the first time only)")
            stamp.unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            stamp.write_text(made_by)
        return folder

    def _do(self, command: Sequence[str], folder: Path | None = None, **environ: str) -> None:
        what = " ".join([Path(command[0]).name, *command[1:3]])
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                env={**self._environ, **environ},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=_DEADLINE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise LeftOut(f"{what} did not end within {_DEADLINE} s") from None
        if done.returncode:
            self._say(done.stdout.strip())
            raise LeftOut(f"{what} failed")
