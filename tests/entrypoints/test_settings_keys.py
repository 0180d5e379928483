"""API keys in the settings."""

import tomllib
from pathlib import Path

import pytest

from domain.grants import ALL_GRANTS, Backend, Grants
from entrypoints.settings import Settings, SettingsError, load_settings

SECRET = "s3cret-key-of-the-app"
FILE = """
[[api_keys]]
name = "app"
key = "s3cret-key-of-the-app"
rooms = { "chat:*" = ["publish", "history"], "@*" = ["publish"] }
"""


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(text: str, **environ: str) -> Settings:
    Path("hubbub.toml").write_text(text)
    return load_settings(environ, None, {})


def problems(text: str, **environ: str) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as refused:
        load(text, **environ)
    return refused.value.problems


def table(**fields: str) -> str:
    """The table above with lines replaced, or taken out by an empty text."""
    lines = dict(line.split(" = ", 1) for line in FILE.splitlines() if " = " in line)
    kept = {name: value for name, value in {**lines, **fields}.items() if value}
    return "[[api_keys]]\n" + "\n".join(f"{name} = {value}" for name, value in kept.items())


def test_without_keys_there_are_none() -> None:
    assert list(load("").backends()) == []


def test_the_single_key_may_do_everything_and_others_what_they_say() -> None:
    settings = load(FILE, HUBBUB_API_KEY="another-s3cret-key")
    grants = Grants({"chat:*": ["publish", "history"], "@*": ["publish"]})
    assert list(settings.backends()) == [
        ("another-s3cret-key", Backend("default", ALL_GRANTS)),
        (SECRET, Backend("app", grants)),
    ]


def test_a_key_may_stand_in_a_file_of_its_own_beside_the_settings(tmp_path: Path) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / "app.key").write_text(f"{SECRET}\n")
    (folder / "hubbub.toml").write_text(table(key="", key_file='"app.key"'))
    settings = load_settings({}, folder / "hubbub.toml", {})
    assert [key for key, _ in settings.backends()] == [SECRET]
    assert SECRET not in repr(settings)


def test_keys_may_come_from_the_environment() -> None:
    keys = '[{"name": "app", "key": "an-s3cret-of-sixteen", "rooms": {"*": ["publish"]}}]'
    assert [key for key, _ in load("", HUBBUB_API_KEYS=keys).backends()] == ["an-s3cret-of-sixteen"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (table(name=""), "(number 1, name) in hubbub.toml is needed"),
        (table(name='"a b"'), "(number 1, name) in hubbub.toml is wrong"),
        (table(name='"default"'), "(number 1) in hubbub.toml must have a name of its own"),
        (table(rooms=""), "(number 1, rooms) in hubbub.toml is needed"),
        (table(rooms='{ "*" = ["fly"] }'), "(number 1, rooms.*.0) in hubbub.toml must be 'join',"),
        (table(rooms='{ "*" = "join" }'), "(number 1, rooms.*) in hubbub.toml must be a list"),
        (table(rooms='{ "c*t" = ["join"] }'), "(number 1) in hubbub.toml 'c*t' is no pattern"),
        (table(key=""), "(number 1) in hubbub.toml needs either key or key_file"),
        (table(key='"two words"'), "(number 1, key) in hubbub.toml must be printable ASCII"),
        (table(key='""'), "(number 1, key) in hubbub.toml must be printable ASCII"),
        (
            table(key='"fifteen-letters"'),
            "(number 1, key) in hubbub.toml has 15 characters and needs",
        ),
        (
            table(key='"a-long-random-key"'),
            "(number 1, key) in hubbub.toml is the one of the example",
        ),
        (table(kee='"x"'), "(number 1, kee) in hubbub.toml is not a setting; did you mean key?"),
        (
            table(key="", key_file='"nowhere"'),
            "(number 1, key_file) in hubbub.toml",
        ),
        (
            table(key="", key_file='"empty"'),
            "(number 1, key_file) in hubbub.toml must be printable",
        ),
        (table(key="", key_file='"binary"'), "(number 1, key_file) in hubbub.toml"),
        (table(key_file='"full"'), "(number 1) in hubbub.toml needs either key or key_file"),
        (
            FILE + table(key='"the-key-of-another-app"'),
            "(number 2) in hubbub.toml must have a name of its own",
        ),
        (FILE + table(name='"b"'), "(number 2) in hubbub.toml has the same key as another one"),
        ("api_keys = 3", "in hubbub.toml must be a list"),
    ],
)
def test_a_key_that_makes_no_sense_is_refused_and_not_shown(text: str, complaint: str) -> None:
    Path("empty").write_text("\n")
    Path("binary").write_bytes(b"\xff\xfe")
    Path("full").write_text("abcdefghijklmnop")
    (found,) = problems(text)
    assert found.startswith(f"api_keys {complaint}")
    assert SECRET not in found
    assert "two words" not in found


def test_a_key_that_is_there_already_is_refused() -> None:
    (found,) = problems(FILE, HUBBUB_API_KEY=SECRET)
    assert "has the same key as another one" in found
    assert SECRET not in found


def test_a_whole_table_that_is_none_is_not_shown() -> None:
    assert SECRET not in str(problems("", HUBBUB_API_KEYS=f'["{SECRET}"]'))
    assert SECRET not in str(problems("", HUBBUB_API_KEYS=SECRET))


def test_the_description_hides_keys_and_is_toml() -> None:
    settings = load(FILE, HUBBUB_API_KEY="another-s3cret-key")
    described = "\n".join(settings.describe())
    assert SECRET not in described
    assert "another-s3cret-key" not in described
    (told,) = tomllib.loads(described)["api_keys"]
    assert told["name"] == "app"
    assert told["rooms"] == {"chat:*": ["publish", "history"], "@*": ["publish"]}
