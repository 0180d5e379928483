"""What settings are called: in the environment, in the file, and in a suggestion."""

import difflib
import types
from collections.abc import Iterable, Iterator
from typing import Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

PREFIX = "HUBBUB_"
DELIMITER = "__"

# Of commands that talk to a running server, and so no settings of one.
OF_COMMANDS = frozenset({"HUBBUB_URL", "HUBBUB_TOKEN", "HUBBUB_METRICS_URL"})

# Names from the outermost table inwards, and the places in lists between them, as pydantic
# locates errors.
Location = tuple[str | int, ...]


def leaves(
    model: type[BaseModel], outer: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    """Every single setting with its location; a list of tables is one setting."""
    for name, field in model.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            yield from leaves(section, (*outer, name))
        else:
            yield (*outer, name), field


def env_name(location: Iterable[str | int]) -> str:
    """How a setting is called in the environment."""
    return PREFIX + DELIMITER.join(str(part) for part in location).upper()


def file_name(location: Iterable[str | int]) -> str:
    """How a setting is called in the file."""
    return ".".join(str(part) for part in location)


def nearest(written: str, known: Iterable[str], delimiter: str) -> str | None:
    """The known name somebody probably meant. A name in the wrong section counts as near."""
    names = list(known)
    close = difflib.get_close_matches(written, names, n=1)
    if close:
        return close[0]
    by_last = {name.rpartition(delimiter)[2]: name for name in reversed(names)}
    last = written.rpartition(delimiter)[2]
    close = difflib.get_close_matches(last, by_last, n=1, cutoff=0.7)
    return by_last[close[0]] if close else None


def nearest_env_name(written: str, model: type[BaseModel]) -> str | None:
    """The environment name somebody probably meant."""
    # Compared without the prefix, which makes any two names look alike.
    known = (env_name(location).removeprefix(PREFIX) for location, _ in leaves(model))
    found = nearest(written.upper().removeprefix(PREFIX), known, DELIMITER)
    return None if found is None else PREFIX + found


def nearest_file_name(location: Location, model: type[BaseModel]) -> str | None:
    """The name in the file somebody probably meant."""
    for index, part in enumerate(location):
        if isinstance(part, int):
            inner = _table_in_list(model, location[:index])
            return None if inner is None else nearest_file_name(location[index + 1 :], inner)
    known = [file_name(known) for known, _ in leaves(model)]
    sections = [name for name in model.model_fields if name not in known]
    return nearest(file_name(location), [*known, *sections], ".")


def is_secret(location: Location, model: type[BaseModel]) -> bool:
    """Whether the value at a location, or beneath it, must not be shown."""
    return any(
        known[: len(location)] == location[: len(known)] and _mentions(field.annotation, SecretStr)
        for known, field in leaves(model)
    )


def _table_in_list(model: type[BaseModel], location: Location) -> type[BaseModel] | None:
    for known, field in leaves(model):
        if known == location:
            return table_of(field)
    return None


def table_of(field: FieldInfo) -> type[BaseModel] | None:
    """What the tables in a list of tables are; None for other settings."""
    for argument in get_args(field.annotation):
        if isinstance(argument, type) and issubclass(argument, BaseModel):
            return argument
    return None


def _mentions(annotation: object, wanted: type) -> bool:
    if get_origin(annotation) in (Union, types.UnionType, list):
        return any(_mentions(argument, wanted) for argument in get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = annotation.model_fields.values()
        return any(_mentions(field.annotation, wanted) for field in fields)
    return annotation is wanted
