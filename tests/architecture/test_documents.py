"""What the documents say, held against the code. PROTOCOL.md has its own test, frame by frame.

A table is compared whole: a missing row is as wrong as one too many. What finds mistakes is itself
shown a mistake.
"""

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
import pytest
from starlette.routing import WebSocketRoute
from typer.main import get_command

from application import disconnects
from application.disconnects import Disconnect
from application.measures import MEASURES, Kind
from domain.errors import HubbubError
from domain.options import RoomOptions
from entrypoints.asgi import Hubbub, create_app
from entrypoints.cli import app as command_line
from entrypoints.settings import RoomRule, Settings, SettingsError, load_settings
from entrypoints.settings_keys import ApiKeyRule
from entrypoints.settings_names import env_name, file_name, leaves
from entrypoints.wire.errors import wire_of
from tests.benchmarks.plot import plot, plot_file
from tests.benchmarks.step_table import Report
from tests.benchmarks.step_table import table as table_of_steps
from tests.benchmarks.summary import Comparison, page, ratios

ROOT = Path(__file__).parents[2]
DOCUMENTS = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")
EXAMPLE = ROOT / "hubbub.example.toml"
PACKAGES = ("domain", "application", "adapters", "entrypoints")

THE_READERS_OWN = {
    "backend.py",
    "hubbub.toml",
    ".venv/",
    ".chaos/histories/",
}  # named in the documents, not in the repository
HOSTS = {
    "127.0.0.1", "localhost",  # here
    "app.example.com", "rooms.example.com", "login.example.com",  # nobody's
    "centrifugal.dev", "docs.bird.com", "github.com", "hexdocs.pm", "pusher.com",
    "python-socketio.readthedocs.io", "socket.io",
}  # fmt: skip


def text(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def prose(page: str) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL)


def table(page: str, heading: str) -> list[list[str]]:
    """The cells of the rows of the one table whose head begins like this, backticks taken off."""
    pattern = rf"^\| {re.escape(heading)} .*\n\|[-|]+\|\n((?:\|.*\n)+)"
    (found,) = re.findall(pattern, page, re.MULTILINE)
    rows = (re.split(r"(?<!\\)\|", row.strip().strip("|")) for row in found.splitlines())
    return [[cell.strip().strip("`") for cell in row] for row in rows]


def shown(value: object) -> str:
    """A default as the tables write it."""
    match value:
        case None:
            return "not set"
        case []:
            return "none"
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
    return str(value)


TABLES = {("rooms",), ("api_keys",)}  # lists of tables


def settings_defaults() -> dict[tuple[str, ...], object]:
    """Location to default of every setting but those that are tables."""
    return {
        location: field.get_default(call_default_factory=True)
        for location, field in leaves(Settings)
        if location not in TABLES
    }


def room_defaults() -> dict[str, object]:
    """What is in force for a room where the file says nothing about it."""
    options = RoomOptions()
    return {name: getattr(options, name) for name in RoomRule.model_fields if name != "match"}


# Settings


def test_the_readme_lists_every_setting_with_its_default() -> None:
    listed = {row[0]: row[1] for row in table(text("README.md"), "variable")}
    assert listed == {env_name(name): shown(value) for name, value in settings_defaults().items()}


def test_the_readme_lists_every_room_option_with_its_default() -> None:
    listed = {row[0]: row[1] for row in table(text("README.md"), "option")}
    assert listed == {name: shown(value) for name, value in room_defaults().items()}


SETTING = re.compile(r"^#(\w+ = .*|\[\[.*\]\])$", re.MULTILINE)
EXAMPLE_VALUE = re.compile(r"(?<=\n)(# not set\b.*\n)#\w+ = .*\n")


def example(*, only_defaults: bool = False, without: str = "") -> dict[str, Any]:
    """The example with every setting in force, or only those that show their default."""
    page = EXAMPLE.read_text(encoding="utf-8")
    if only_defaults:
        page = EXAMPLE_VALUE.sub(r"\1", page)
    kept = (line for line in page.splitlines() if line[1:].partition(" = ")[0] != without)
    return tomllib.loads(SETTING.sub(r"\1", "\n".join(kept)))


def flat(tables: dict[str, Any], outer: tuple[str, ...] = ()) -> Iterator[tuple[str, object]]:
    for name, value in tables.items():
        if isinstance(value, dict):
            yield from flat(value, (*outer, name))
        else:
            yield file_name((*outer, name)), value


def test_the_example_names_every_setting_and_room_option() -> None:
    tables = example()
    (room,), (key,) = tables.pop("rooms"), tables.pop("api_keys")
    assert set(dict(flat(tables))) == {file_name(name) for name in settings_defaults()}
    assert set(room) == set(RoomRule.model_fields)
    assert set(key) == set(ApiKeyRule.model_fields)


def test_the_example_shows_the_defaults() -> None:
    tables = example(only_defaults=True)
    (room,), (key,) = tables.pop("rooms"), tables.pop("api_keys")
    assert key == {}
    defaults = {file_name(name): value for name, value in settings_defaults().items()}
    assert dict(flat(tables)) == {k: v for k, v in defaults.items() if v is not None}
    assert room == {k: v for k, v in room_defaults().items() if v is not None}


def load(folder: Path, page: str) -> Settings:
    """Settings from a file in a folder that has the keys and certificates it names."""
    file = folder / "hubbub.toml"
    file.write_text(page, encoding="utf-8")
    return load_settings({}, file, {})


def test_the_example_loads_as_it_is(tmp_path: Path) -> None:
    loaded = load(tmp_path, EXAMPLE.read_text(encoding="utf-8"))
    assert loaded.model_dump() == Settings().model_dump()


def uncommented(*names: str) -> str:
    """The example with the lines of these names (none: of all) in force."""
    page = EXAMPLE.read_text(encoding="utf-8")
    return SETTING.sub(
        lambda line: line[1] if not names or line[1].partition(" = ")[0] in names else line[0], page
    )


# Certificates are loaded on the spot, a key of the API stands in one place, and a secret that a
# document shows is none.
LOADED_ALONE = {"ssl_certfile", "ssl_keyfile", "key_file"}
SECRETS = {"hmac_secret", "api_key", "key"}


def with_secrets(page: str) -> str:
    """Secrets of their own in the place of those that a document shows."""
    secrets = r'^((?:hmac_secret|api_key|key) = ")([^"]+)'
    page, found = re.subn(secrets, r"\1my-own-\2", page, flags=re.MULTILINE)
    assert found
    return page


def test_the_example_loads_with_everything_in_force(tmp_path: Path) -> None:
    (tmp_path / "tokens.pem").touch()
    page = uncommented()
    for name in LOADED_ALONE:
        page, found = re.subn(rf"^{name} = .*$", "", page, flags=re.MULTILINE)
        assert found == 1, name
    settings = load(tmp_path, with_secrets(page))
    assert settings.auth.public_key_file == tmp_path / "tokens.pem"
    assert [rule.match for rule in settings.rooms] == ["chat:*"]
    assert [backend.name for _, backend in settings.backends()] == ["default", "billing"]


@pytest.mark.parametrize("name", sorted(LOADED_ALONE | SECRETS))
def test_what_the_example_cannot_show_alone_is_refused_by_its_name(
    name: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=name):
        load(tmp_path, uncommented(name))


@pytest.mark.parametrize("page", blocks(text("README.md"), "toml"))
def test_settings_in_the_readme_load(page: str, tmp_path: Path) -> None:
    if "key = " in page:
        page = with_secrets(page)
    assert load(tmp_path, page).rooms


# Doors, codes, metrics


def test_the_readme_lists_every_door() -> None:
    application = create_app(Settings())
    assert isinstance(application, Hubbub)
    doors = {route.path for route in application.doors.routes if isinstance(route, WebSocketRoute)}
    listed = {row[0].partition("?")[0] for row in table(text("README.md"), "door")}
    assert listed == doors


def test_the_readme_lists_every_route_of_the_http_api() -> None:
    routes = {
        f"{method.upper()} {path}"
        for path, methods in create_app(Settings()).openapi()["paths"].items()
        for method in methods
        if path.startswith("/v1/")
    }
    assert {row[0] for row in table(text("README.md"), "route")} == routes


async def test_the_http_paths_of_the_readme_exist() -> None:
    (line,) = re.findall(r"^Over HTTP there are (.*)$", text("README.md"), re.MULTILINE)
    listed = re.findall(r"`(/[\w.]*)`", line)
    assert listed
    transport = httpx.ASGITransport(create_app(Settings()))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        answers = {path: (await client.get(path)).status_code for path in listed}
    # 503: not running, but there.
    assert answers == {path: 503 if path == "/readyz" else 200 for path in listed}


def close_codes() -> dict[str, int]:
    return {
        name: code.code for name, code in vars(disconnects).items() if isinstance(code, Disconnect)
    }


def test_the_architecture_lists_every_close_code() -> None:
    listed = {row[1]: int(row[0]) for row in table(text("ARCHITECTURE.md"), "close code")}
    assert listed == close_codes()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_no_document_names_a_close_code_that_does_not_exist(document: str) -> None:
    named = {int(code) for code in re.findall(r"\b4[0-2]\d\d\b(?! pages)", text(document))}
    ends_of_ranges = {4000, 4099, 4100, 4199, 4200, 4299}
    assert named <= set(close_codes().values()) | ends_of_ranges


def errors(of: type[HubbubError] = HubbubError) -> Iterator[type[HubbubError]]:
    """The classes with a code."""
    if "code" in vars(of):
        yield of
    for further in of.__subclasses__():
        yield from errors(further)


def test_the_architecture_lists_every_error_as_it_leaves_the_house() -> None:
    listed = {row[0]: (row[1], row[2]) for row in table(text("ARCHITECTURE.md"), "error")}
    expected = {}
    for error in errors():
        status, close = wire_of(error("x"))
        expected[error.code] = (str(status), "\N{EN DASH}" if close is None else str(close.code))
    assert listed == expected


def used() -> set[str]:
    """Names of measures, from the calls that count, read and time."""
    source = "\n".join(
        file.read_text() for package in PACKAGES for file in (ROOT / package).rglob("*.py")
    )
    return set(re.findall(r"metrics\.(?:count|gauge|observe)(?:\(|, )\s*\"(\w+)\"", source))


def test_every_measure_is_made_and_nothing_else() -> None:
    assert used() == set(MEASURES)


def exposed(*, shared: bool) -> dict[str, str]:
    """Name of each metric as a scrape shows it, and its kind."""
    return {
        f"hubbub_{name}_total" if measure.kind is Kind.COUNTER else f"hubbub_{name}": (
            measure.kind.value
        )
        for name, measure in MEASURES.items()
        if measure.shared == shared
    }


def test_the_readme_lists_every_metric() -> None:
    readme = text("README.md")
    alone = {row[0]: row[1] for row in table(readme, "metric |")}
    assert alone == {**exposed(shared=False), "hubbub_node_info": "gauge"}
    assert {row[0]: row[1] for row in table(readme, "metric over Redis")} == exposed(shared=True)
    assert set(re.findall(r"`(hubbub_\w+)`", readme)) <= {*alone, *exposed(shared=True)}


# Snippets


@pytest.mark.parametrize("document", DOCUMENTS)
def test_python_in_the_documents_compiles(document: str) -> None:
    for number, block in enumerate(blocks(text(document), "python")):
        compile(block, f"{document} block {number}", "exec")


def test_the_readme_has_snippets_in_both_languages() -> None:
    assert blocks(text("README.md"), "python")
    assert blocks(text("README.md"), "js")


def commands(document: str) -> Iterator[list[str]]:
    """The words of every command in a shell block, without the variables in front of it."""
    for block in blocks(text(document), "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            for command in line.split("&&"):
                words = shlex.split(command, comments=True)
                while words and re.match(r"[A-Z_]+=", words[0]):
                    words.pop(0)
                if words:
                    yield words


def unknown(words: list[str]) -> set[str]:
    """Targets of make, and commands and flags of hubbub, that are not there."""
    program, *arguments = words
    if program == "make":
        targets = set(re.findall(r"^([a-z]+):", text("Makefile"), re.MULTILINE))
        return {word for word in arguments if "=" not in word} - targets
    if program != "hubbub":
        return set()
    found: Any = getattr(get_command(command_line), "commands")  # noqa: B009
    if arguments[0] not in found:
        return {arguments[0]}
    flags = {flag for option in found[arguments[0]].params for flag in option.opts}
    return {word for word in arguments[1:] if word.startswith("--")} - flags


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_in_the_documents_exist(document: str) -> None:
    assert [words for words in commands(document) if unknown(words)] == []


def test_a_command_that_does_not_exist_is_found() -> None:
    assert unknown(["make", "tset", "PYTEST_ARGS=-x"]) == {"tset"}
    assert unknown(["hubbub", "pubish", "room"]) == {"pubish"}
    assert unknown(["hubbub", "token", "ann", "--expire", "1h"]) == {"--expire"}


# Links and paths


def anchors(document: str) -> set[str]:
    """Headings as they are linked to."""
    headings = re.findall(r"^#+ (.*)$", prose(text(document)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(document: str, page: str) -> set[str]:
    """Relative links to no file or no heading."""
    inline = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    broken = set()
    for link in inline:
        file, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = file or document
        if not (ROOT / target).exists() or (anchor and anchor not in anchors(target)):
            broken.add(link)
    return broken


@pytest.mark.parametrize("document", DOCUMENTS)
def test_relative_links_lead_somewhere(document: str) -> None:
    assert broken_links(document, text(document)) == set()


def test_a_broken_link_is_found() -> None:
    page = "[a](LICENSE) [b](NOWHERE.md) [c](README.md#limits) [d](#nowhere) [e](https://x.y/z)"
    assert broken_links("README.md", page) == {"NOWHERE.md", "#nowhere"}


PATH = re.compile(r"`((?:[\w.-]+/)*[\w.-]+\.(?:py|js|md|toml|txt|service)|(?:[\w.-]+/)+)`")


def lost_paths(page: str) -> set[str]:
    """Files and folders named in backticks that do not exist; a name alone may be anywhere in the
    packages or the tests."""
    lost = set()
    for name in set(PATH.findall(prose(page))) - THE_READERS_OWN:
        folders = [ROOT / folder for folder in (*PACKAGES, "tests")] if "/" not in name else []
        if not (ROOT / name).exists() and not any(any(f.rglob(name)) for f in folders):
            lost.add(name)
    return lost


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_named_in_the_documents_exist(document: str) -> None:
    assert lost_paths(text(document)) == set()


def test_a_file_that_does_not_exist_is_found() -> None:
    page = "`domain/room.py`, `room.py`, `domain/`, `domain/rooms.py`, `rooms.py`, `domains/`"
    assert lost_paths(page) == {"domain/rooms.py", "rooms.py", "domains/"}


def test_every_folder_of_the_packages_has_its_place_in_the_architecture() -> None:
    page = text("ARCHITECTURE.md")
    folders = {
        f"{file.parent.relative_to(ROOT)}/"
        for package in PACKAGES
        for file in (ROOT / package).rglob("*.py")
    }
    assert {folder for folder in folders if f"`{folder}`" not in page} == set()


def test_the_references_of_the_comparison_are_used_and_defined() -> None:
    page = text("README.md")
    defined = re.findall(r"^\[(\d+)\]: https://", page, re.MULTILINE)
    used = re.findall(r"\[(\d+)\](?!:)", prose(page))
    assert defined == [str(number) for number in range(1, len(defined) + 1)]
    assert set(used) == set(defined)


# Figures


def results() -> Comparison:
    raw = (ROOT / "docs" / "benchmarks" / "results.json").read_bytes()
    return msgspec.json.decode(raw, type=Comparison)


def test_the_readme_shows_the_ratios_of_the_benchmarks() -> None:
    assert f"<!-- benchmarks -->\n{ratios(results())}\n\n" in text("README.md")


def test_the_architecture_shows_what_the_steps_of_the_lane_buy() -> None:
    raw = (ROOT / "docs" / "benchmarks" / "steps.json").read_bytes()
    shown = table_of_steps(msgspec.json.decode(raw, type=Report))
    assert f"<!-- steps -->\n{shown}\n" in text("ARCHITECTURE.md")


def test_the_page_of_the_benchmarks_shows_the_runs_beside_it() -> None:
    found = results()
    assert found.complete
    plots = [(column, plot_file(column)) for column in found.setup.columns()]
    assert text("docs/benchmarks/README.md") == page(found, plots)
    for column, file in plots:
        assert text(f"docs/benchmarks/{file}") == plot(found, column)


# What must not be in them


def strange_hosts(page: str) -> set[str]:
    """Hosts of addresses that nobody has looked at, registries of packages among them."""
    addresses = re.findall(r"\b(?:https?|wss?)://[^\s)>\"'`,]+", page)
    return {urlsplit(address).hostname or address for address in addresses} - HOSTS


def machine_paths(page: str) -> list[str]:
    """Paths that exist on somebody's machine only."""
    return re.findall(r"(?<![\w.])/(?:home|Users|root|tmp|work|mnt)/\S*", page)


@pytest.mark.parametrize("document", [*DOCUMENTS, EXAMPLE.name])
def test_documents_name_no_strange_hosts_and_no_paths_of_a_machine(document: str) -> None:
    assert strange_hosts(text(document)) == set()
    assert machine_paths(text(document)) == []


def test_a_strange_host_and_a_path_of_a_machine_are_found() -> None:
    page = "see https://registry.example.net/simple and https://github.com/x, in /home/ann/hubbub"
    assert strange_hosts(page) == {"registry.example.net"}
    assert machine_paths(page) == ["/home/ann/hubbub"]
