"""Another build of hubbub, taken out of the history of its repository."""

import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

_ROOT = Path(__file__).parents[2]


class NoBuild(Exception):
    """There is no such build here; the text says why."""


def sources(ref: str, folder: Path) -> Path:
    """What is in the repository at a commit or tag, unpacked below the folder. It runs with the
    packages of this environment. Raises NoBuild."""
    commit = _git("rev-parse", "--verify", f"{ref}^{{commit}}").decode().strip()
    place = folder / commit
    if not place.exists():
        with tarfile.open(fileobj=BytesIO(_git("archive", commit))) as files:
            files.extractall(place, filter="data")
    return place


def last_release() -> str | None:
    """The newest tag that this tree continues, or None."""
    try:
        return _git("describe", "--tags", "--abbrev=0").decode().strip()
    except NoBuild:
        return None


def _git(*arguments: str) -> bytes:
    try:
        command = ["git", "-C", str(_ROOT), *arguments]
        done = subprocess.run(command, capture_output=True, check=True)
    except FileNotFoundError:
        raise NoBuild("git is not installed") from None
    except subprocess.CalledProcessError as failed:
        raise NoBuild(failed.stderr.decode().strip()) from None
    return done.stdout
