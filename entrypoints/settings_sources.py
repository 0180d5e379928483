"""Where settings come from, and how they were called there."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_settings import BaseSettings, EnvSettingsSource

from entrypoints.settings_names import (
    OF_COMMANDS,
    PREFIX,
    Location,
    env_name,
    file_name,
    leaves,
    nearest_env_name,
    table_of,
)

DEFAULT_FILE = Path("hubbub.toml")


class SettingsError(Exception):
    """The configuration cannot be used. `problems` are lines for the operator, without secrets."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class Given:
    """What somebody said, by decreasing priority: flags, environment, file."""

    overrides: Mapping[str, object] = field(repr=False)
    environ: Mapping[str, str] = field(repr=False)
    tables: Mapping[str, Any] = field(repr=False)
    file: Path | None = None

    def source(self, location: Location) -> str:
        """Who decided a setting, for people."""
        name = env_name(_setting(location))
        if location and location[0] in self.overrides:
            return f"--{location[0]}".replace("_", "-")
        if name in self.environ:
            return name
        if self._in_file(location):
            return self.file.name if self.file else DEFAULT_FILE.name
        return "default"

    def name(self, location: Location) -> str:
        """What a setting is called where it was written; its environment name if nowhere."""
        source = self.source(location)
        if self.file is None or source != self.file.name:
            name = env_name(_setting(location)) if source == "default" else source
            rest = location[len(_setting(location)) :]
            return f"{name} ({_in_list(rest)})" if rest else name
        setting = _setting(location)
        if len(setting) == len(location):
            return f"{file_name(location)} in {source}"
        return f"{file_name(setting)} ({_in_list(location[len(setting) :])}) in {source}"

    def _in_file(self, location: Location) -> bool:
        table: object = self.tables
        for part in _setting(location):
            if not isinstance(table, Mapping) or part not in table:
                return False
            table = table[part]
        return True


def read_sources(
    model: type[BaseModel],
    environ: Mapping[str, str],
    config: Path | None,
    overrides: Mapping[str, object],
) -> Given:
    """Gather what was said. Flags that are None were not given. Raises SettingsError for a file
    that cannot be read and for names in the environment that are not settings."""
    ours = {
        name: text
        for name, text in environ.items()
        if name.upper().startswith(PREFIX) and name not in OF_COMMANDS
    }
    problems = _strange_names(model, ours)
    if problems:
        raise SettingsError(*problems)
    said = {name: value for name, value in overrides.items() if value is not None}
    if config is None:
        # Only the file somebody names has to be there.
        config = DEFAULT_FILE if DEFAULT_FILE.exists() else None
    tables = {} if config is None else _read_file(model, config)
    return Given(said, ours, tables, config)


class Environment(EnvSettingsSource):
    """The settings in a mapping instead of the process environment."""

    def __init__(self, model: type[BaseSettings], environ: Mapping[str, str]) -> None:
        self._environ = environ
        super().__init__(model)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name.lower(): text for name, text in self._environ.items()}


def _strange_names(model: type[BaseModel], environ: Mapping[str, str]) -> list[str]:
    known = {env_name(location) for location, _ in leaves(model)}
    problems = []
    for name, text in sorted(environ.items()):
        if name not in known:
            meant = nearest_env_name(name, model)
            hint = f"did you mean {meant}?" if meant else "`hubbub check` shows all there are"
            problems.append(f"{name} is not a setting; {hint}")
        elif not text:
            problems.append(f"{name} is empty: give it a value or leave it out")
    if "HUBBUB_SERVICE_HOST" in environ and problems:
        problems.append(
            "HUBBUB_SERVICE_HOST looks like Kubernetes telling pods about a service called hubbub: "
            "set enableServiceLinks to false for the pod"
        )
    return problems


def _read_file(model: type[BaseModel], path: Path) -> dict[str, Any]:
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path} is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is not TOML: {error}") from None
    _anchor_paths(model, tables, path.parent)
    return tables


def _anchor_paths(model: type[BaseModel], tables: dict[str, Any], folder: Path) -> None:
    """Paths in the file are relative to the file."""
    for location, leaf in leaves(model):
        *sections, name = location
        table: Any = tables
        for section in sections:
            table = table.get(section) if isinstance(table, dict) else None
        inner, found = table_of(leaf), table.get(name) if isinstance(table, dict) else None
        if inner is not None and isinstance(found, list):
            for each in found:
                if isinstance(each, dict):
                    _anchor_paths(inner, each, folder)
        elif isinstance(found, str) and _is_path(leaf.annotation):
            table[name] = str(folder / found)


def _is_path(annotation: object) -> bool:
    return Path in getattr(annotation, "__args__", (annotation,))


def _setting(location: Location) -> Location:
    """The part of a location before the first place in a list."""
    for index, part in enumerate(location):
        if isinstance(part, int):
            return location[:index]
    return location


def _in_list(rest: Location) -> str:
    place, *names = rest
    number = f"number {int(place) + 1}"
    return f"{number}, {file_name(names)}" if names else number
