"""An installed hubbub has every file it needs, in the versions it was tested with."""

import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PACKAGES = ("domain", "application", "adapters", "entrypoints")


def configuration() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def requirements() -> list[Requirement]:
    project = configuration()["project"]
    listed: list[str] = project["dependencies"] + project["optional-dependencies"]["dev"]
    return [Requirement(line) for line in listed]


def constraint_lines() -> list[str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [line for line in lines if not line.startswith("#")]


def pinned() -> dict[str, str]:
    """Canonical name to the one version allowed."""
    pins = (re.fullmatch(r"([\w.-]+)==([\w.]+)( ;.*)?", line) for line in constraint_lines())
    return {canonicalize_name(pin[1]): pin[2] for pin in pins if pin}


def unpacked(files: Iterable[PurePath], data: dict[str, list[str]]) -> Iterator[PurePath]:
    """Those of the data files, named from the top folder, that no pattern takes along."""
    for file in files:
        package, *rest = file.parts
        folder = ROOT / package
        taken = {found for pattern in data.get(package, []) for found in folder.glob(pattern)}
        if folder.joinpath(*rest) not in taken:
            yield file


def data_files() -> list[PurePath]:
    """Files of the packages that are not modules."""
    everything = (path for package in PACKAGES for path in (ROOT / package).rglob("*"))
    return [
        path.relative_to(ROOT)
        for path in everything
        if path.is_file() and path.suffix not in {".py", ".pyc"} and path.name[0] != "."
    ]


def test_every_data_file_is_installed() -> None:
    data = configuration()["tool"]["setuptools"]["package-data"]
    assert data_files(), "the web pages at least are some"
    assert list(unpacked(data_files(), data)) == []


def test_a_data_file_left_behind_is_found() -> None:
    page = PurePath("entrypoints/web/start.html")
    assert list(unpacked([page], {"entrypoints": ["web/*.js"], "adapters": ["**/*"]})) == [page]


def test_the_client_of_the_pages_is_the_one_in_clients() -> None:
    served, client = ROOT / "entrypoints/web/hubbub.js", ROOT / "clients/js/hubbub.js"
    assert served.resolve() == client, "a link, so that there is one client"
    image = (ROOT / "deploy/Dockerfile").read_text()
    assert "COPY clients/js/hubbub.js clients/js/hubbub.js" in image, "what the link leads to"
    assert "!clients/js/hubbub.js" in (ROOT / ".dockerignore").read_text().splitlines()


def test_only_the_four_packages_are_installed() -> None:
    find = configuration()["tool"]["setuptools"]["packages"]["find"]
    assert {name.removesuffix(".*") for name in find["include"]} == set(PACKAGES)


def test_every_line_of_the_constraints_is_one_exact_version() -> None:
    assert len(pinned()) == len(constraint_lines())


@pytest.mark.parametrize("requirement", requirements(), ids=lambda found: str(found.name))
def test_a_requirement_is_pinned_to_a_version_it_allows(requirement: Requirement) -> None:
    assert requirement.specifier.contains(pinned()[canonicalize_name(requirement.name)])


def test_uvicorn_is_pinned_in_the_requirements_too() -> None:
    (uvicorn,) = (found for found in requirements() if found.name == "uvicorn")
    assert str(uvicorn.specifier) == f"=={pinned()['uvicorn']}"
