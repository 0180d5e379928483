"""Builds the compiled load generator, once for each version of its source."""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

SOURCE = Path(__file__).with_name("generator.c")
_FLAGS = ("-O2", "-std=gnu11")
_COMPILERS = ("cc", "gcc", "clang")
_DEADLINE = 120  # seconds a compiler may take


class NotCompiled(Exception):
    """There is no compiled generator; the text says why."""


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Where things are kept that can be made again."""
    named = environ.get("XDG_CACHE_HOME", "")
    # The specification of that variable wants relative paths ignored.
    root = Path(named) if os.path.isabs(named) else Path.home() / ".cache"
    return root / "hubbub" / "bench"


def build_generator(environ: Mapping[str, str]) -> Path:
    """The executable, built if it is not there. Raises NotCompiled."""
    if sys.platform != "linux":
        raise NotCompiled("the compiled one needs Linux")
    return build(SOURCE, cache_folder(environ), environ)


def build(source: Path, folder: Path, environ: Mapping[str, str]) -> Path:
    """The executable for one C file, in the folder. Raises NotCompiled."""
    compiler = _compiler(environ)
    try:
        recipe = repr((compiler, _FLAGS, platform.machine())).encode() + source.read_bytes()
        program = folder / f"{source.stem}-{hashlib.sha256(recipe).hexdigest()[:16]}"
        if not program.exists():
            folder.mkdir(parents=True, exist_ok=True)
            _compile(compiler, source, program)
    except OSError as error:
        raise NotCompiled(f"{error.filename}: {error.strerror}") from None
    return program


def _compiler(environ: Mapping[str, str]) -> str:
    candidates = [environ["CC"]] if environ.get("CC") else _COMPILERS
    for name in candidates:
        found = shutil.which(name, path=environ.get("PATH"))
        if found:
            return found
    raise NotCompiled(f"no C compiler found (tried {', '.join(candidates)})")


def _compile(compiler: str, source: Path, program: Path) -> None:
    # Under a name of its own until it is whole: two may build at once, and one may be interrupted.
    with tempfile.TemporaryDirectory(dir=program.parent) as workshop:
        made = Path(workshop) / program.name
        try:
            done = subprocess.run(
                [compiler, *_FLAGS, "-o", str(made), str(source)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_DEADLINE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise NotCompiled(f"{compiler} did not end within {_DEADLINE} s") from None
        if done.returncode:
            first = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[0]
            raise NotCompiled(f"{compiler} failed: {first}")
        made.replace(program)
