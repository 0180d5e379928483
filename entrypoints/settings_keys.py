"""API keys in the settings: the single one, and those of `[[api_keys]]` tables."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, SecretStr, field_validator
from pydantic import model_validator as validator

from domain.grants import ALL_GRANTS, Action, Backend, Grants
from entrypoints.settings_sections import Section, of_our_own_making, readable

MIN_KEY = 16  # characters of an API key
SINGLE_KEY = "default"  # what HUBBUB_API_KEY is called among the keys


class ApiKeyRule(Section):
    """One `[[api_keys]]` table: a key for a backend, and what may be done with it in which rooms.
    The key stands in the file itself or alone in another one."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
    key: SecretStr | None = None
    key_file: Path | None = None
    rooms: dict[str, list[Action]]

    @field_validator("key")
    @classmethod
    def _cannot_be_guessed(cls, key: SecretStr | None) -> SecretStr | None:
        return strong_key(key)

    @field_validator("key_file")
    @classmethod
    def _holds_a_key(cls, path: Path | None) -> Path | None:
        if readable(path) is not None:
            strong_key(_key_in(path))
        return path

    @validator(mode="after")
    def _makes_sense(self) -> Self:
        if (self.key is None) == (self.key_file is None):
            raise ValueError("needs either key or key_file")
        self.grants()
        return self

    def grants(self) -> Grants:
        """Raises ValueError for patterns that make no sense."""
        return Grants(self.rooms)

    def secret(self) -> str:
        """The key, from wherever it is."""
        key = self.key or _key_in(self.key_file)
        return "" if key is None else key.get_secret_value()


def _key_in(path: Path | None) -> SecretStr | None:
    if path is None:
        return None
    try:
        return SecretStr(path.read_text(encoding="utf-8").strip())
    except (OSError, UnicodeDecodeError):
        raise ValueError(f"{path} holds no key") from None


def strong_key(key: SecretStr | None) -> SecretStr | None:
    """Refuse a key that cannot travel in a header, or could be guessed. Raises ValueError."""
    if key is None:
        return None
    text = key.get_secret_value()
    if not (text.isascii() and text.isprintable() and text and " " not in text):
        raise ValueError("must be printable ASCII without spaces: it travels in a header")
    of_our_own_making(text)
    if len(text) < MIN_KEY:
        raise ValueError(
            f"has {len(text)} characters and needs at least {MIN_KEY}; "
            "`openssl rand -base64 32` makes a good one"
        )
    return key


def backends(
    single: SecretStr | None, rules: Sequence[ApiKeyRule]
) -> Iterator[tuple[str, Backend]]:
    """Every key, and who shows it. The single one may do everything."""
    if single is not None:
        yield single.get_secret_value(), Backend(SINGLE_KEY, ALL_GRANTS)
    for rule in rules:
        yield rule.secret(), Backend(rule.name, rule.grants())


def doubled(single: SecretStr | None, rules: Sequence[ApiKeyRule]) -> Iterator[tuple[int, str]]:
    """What is wrong with which of the tables because of those before it."""
    names, secrets = {SINGLE_KEY}, {single and single.get_secret_value()}
    for number, rule in enumerate(rules):
        if rule.name in names:
            yield number, f"must have a name of its own, not {rule.name}: publish keys go by it"
        if rule.secret() in secrets:
            yield number, "has the same key as another one"
        names.add(rule.name)
        secrets.add(rule.secret())
