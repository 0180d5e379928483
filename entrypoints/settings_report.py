"""Settings for people: what is wrong with them, and which ones are in force."""

import json
import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from entrypoints.settings_names import (
    Location,
    env_name,
    file_name,
    is_secret,
    leaves,
    nearest_file_name,
)
from entrypoints.settings_sources import Given

HIDDEN = "**********"
_MAX_SHOWN = 60  # characters of a wrong value

_WANTED = {
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "finite_number": "must be a number below infinity",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "string_unicode": "must be UTF-8 text",
    "path_type": "must be the path of a file",
    "list_type": "must be a list",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
}


class Conflicts(ValueError):
    """Settings that are fine one by one and not together: (location, what to do)."""

    def __init__(self, found: list[tuple[Location, str]]) -> None:
        super().__init__("; ".join(f"{env_name(location)} {text}" for location, text in found))
        self.found = found


def problems(error: ValidationError, given: Given, model: type[BaseModel]) -> Iterator[str]:
    """One line for each thing that is wrong, by the name it was given."""
    for detail in error.errors(include_url=False):
        cause = detail.get("ctx", {}).get("error")
        if isinstance(cause, Conflicts):
            for location, text in cause.found:
                yield f"{given.name(location)} {text}"
        else:
            yield f"{given.name(detail['loc'])} {_what_is_wrong(detail, cause, model)}"


def _what_is_wrong(detail: ErrorDetails, cause: object, model: type[BaseModel]) -> str:
    location = detail["loc"]
    if detail["type"] == "extra_forbidden":
        meant = nearest_file_name(location, model)
        hint = f"did you mean {meant}?" if meant else "`hubbub check` shows all there are"
        return f"is not a setting; {hint}"
    if detail["type"] == "missing":
        return "is needed"
    if isinstance(cause, ValueError):
        return str(cause)
    wanted = _WANTED.get(detail["type"])
    text = wanted.format(**detail.get("ctx", {})) if wanted else f"is wrong: {detail['msg']}"
    return text + _shown(detail["input"], location, model)


def _shown(value: object, location: Location, model: type[BaseModel]) -> str:
    if is_secret(location, model) or not isinstance(value, str | int | float):
        return ""
    text = repr(value)
    return f", not {text}" if len(text) <= _MAX_SHOWN else ""


def effective(settings: BaseModel, sources: dict[str, str]) -> Iterator[str]:
    """The settings as lines of TOML, secrets hidden, with who decided each as a comment."""
    section: tuple[str, ...] = ()
    tables: list[tuple[str, Any]] = []
    ordered = sorted(leaves(type(settings)), key=lambda leaf: len(leaf[0]))
    for location, _ in ordered:
        value: Any = settings
        for name in location:
            value = getattr(value, name)
        if location[:-1] != section:
            section = location[:-1]
            yield f"\n[{file_name(section)}]"
        if isinstance(value, list) and value and isinstance(value[0], BaseModel):
            tables.append((location[-1], value))
            continue
        source = sources.get(file_name(location), "default")
        yield _line(location[-1], value, source)
    for name, rules in tables:
        for rule in rules:
            yield f"\n[[{name}]]  # {sources.get(name, 'default')}"
            for key, value in rule.model_dump(mode="json", exclude_none=True).items():
                yield f"{key} = {_toml(value)}"


def _line(name: str, value: object, source: str) -> str:
    if value is None:
        return f"# {name} is not set"
    if isinstance(value, SecretStr):
        # Where a URL leads may be told; of anything else nothing is.
        value = hide_password(value.get_secret_value()) if name.endswith("_url") else HIDDEN
    return f"{name} = {_toml(value)}  # {source}"


def _toml(value: object) -> str:
    if isinstance(value, dict):
        pairs = ", ".join(f"{_toml(key)} = {_toml(value[key])}" for key in value)
        return f"{{ {pairs} }}"
    return json.dumps(value, default=str, ensure_ascii=False)


_USER = re.compile(r"://\S*@")
_QUERY = re.compile(r"\?.*", re.DOTALL)


def hide_password(url: str) -> str:
    """A URL that may be shown. The password may stand before the host or in the query."""
    return _USER.sub(f"://{HIDDEN}@", _QUERY.sub(f"?{HIDDEN}", url))
