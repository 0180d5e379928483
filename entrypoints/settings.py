"""Settings of the server, checked once at start.

Priority: command line, environment (`HUBBUB_…`, `__` between section and name), `hubbub.toml`,
defaults. A name nobody knows refuses to start: a typo must not leave a limit or a key unset.
"""

import json
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic import model_validator as validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from application import report_figures
from domain.grants import Backend
from domain.options import RoomCatalog
from domain.origins import OriginPolicy
from entrypoints.bind import is_loopback, trusted
from entrypoints.settings_keys import ApiKeyRule, backends, doubled, strong_key
from entrypoints.settings_names import DELIMITER, PREFIX, Location, file_name, leaves
from entrypoints.settings_report import Conflicts, effective, problems
from entrypoints.settings_sections import (
    LOOPBACK,
    AuthSettings,
    LimitSettings,
    Number,
    OperationsSettings,
    RoomRule,
    Seconds,
    Whole,
    readable,
)
from entrypoints.settings_sources import Environment, Given, SettingsError, read_sources

__all__ = [
    "ApiKeyRule",
    "AuthSettings",
    "LimitSettings",
    "RoomRule",
    "Settings",
    "SettingsError",
    "load_settings",
]

_OUTBOX_FRAMES = 4
_REDIS_SCHEMES = (
    "redis://",
    "rediss://",
    "unix://",
    "redis+sentinel://",
    "rediss+sentinel://",
    "redis+cluster://",
    "rediss+cluster://",
)


def _listed(value: object) -> object:
    """`a, b` as well as `["a", "b"]`."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return _parsed(value)
    return [part.strip() for part in value.split(",") if part.strip()]


def _parsed(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise ValueError("is not JSON") from None


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


LogLevel = Literal["debug", "info", "warning", "error", "critical"]


class Settings(BaseSettings):
    """Everything an operator may decide. Built directly it reads neither environment nor file."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter=DELIMITER,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        allow_inf_nan=False,
    )

    host: Annotated[str, Field(min_length=1)] = LOOPBACK
    port: Annotated[Whole, Field(ge=0, le=65_535)] = 8000
    workers: Annotated[Whole, Field(ge=1, le=256)] = 1
    backend: Literal["memory", "redis"] = "memory"
    redis_url: SecretStr | None = None
    redis_replicas: Annotated[Whole, Field(ge=0, le=100)] = 0
    origins: Annotated[list[str], NoDecode, BeforeValidator(_listed)] = []
    trusted_proxies: Annotated[list[str], NoDecode, BeforeValidator(_listed)] = []
    ping_interval: Seconds = 25.0
    ping_timeout: Seconds = 10.0
    presence_grace: Annotated[Number, Field(ge=0)] = 10.0
    drain_window: Annotated[Number, Field(ge=0)] = 20.0
    compression: bool = False
    allow_anonymous: bool = False
    pages: bool | None = None
    api_key: SecretStr | None = None
    api_keys: Annotated[list[ApiKeyRule], NoDecode, BeforeValidator(_parsed)] = []
    log_level: Annotated[LogLevel, BeforeValidator(_lower)] = "info"
    log_format: Annotated[Literal["console", "json"], BeforeValidator(_lower)] = "console"
    ssl_certfile: Path | None = None
    ssl_keyfile: Path | None = None
    auth: AuthSettings = AuthSettings()
    operations: OperationsSettings = OperationsSettings()
    limits: LimitSettings = LimitSettings()
    rooms: Annotated[list[RoomRule], NoDecode, BeforeValidator(_parsed)] = []

    _sources: dict[str, str] = PrivateAttr(default_factory=dict)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is handed in; `load_settings` names the other sources."""
        return (init_settings,)

    @field_validator("ssl_certfile", "ssl_keyfile")
    @classmethod
    def _there(cls, path: Path | None) -> Path | None:
        return readable(path)

    @field_validator("origins")
    @classmethod
    def _known_origins(cls, origins: list[str]) -> list[str]:
        OriginPolicy(origins, loopback=False)
        return origins

    @field_validator("trusted_proxies")
    @classmethod
    def _known_proxies(cls, proxies: list[str]) -> list[str]:
        for proxy in proxies:
            trusted(proxy)
        return proxies

    @field_validator("redis_url")
    @classmethod
    def _known_scheme(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not url.get_secret_value().startswith(_REDIS_SCHEMES):
            raise ValueError(
                f"must begin with {', '.join(_REDIS_SCHEMES[:-1])} or {_REDIS_SCHEMES[-1]}"
            )
        return url

    @field_validator("api_key")
    @classmethod
    def _cannot_be_guessed(cls, key: SecretStr | None) -> SecretStr | None:
        return strong_key(key)

    @validator(mode="after")
    def _fit_together(self) -> Self:
        found = [
            *self._open_to_strangers(),
            *self._missing_partners(),
            *self._unusable_tls(),
            *self._two_ports(),
            *self._cramped(),
            *(
                (("api_keys", number), text)
                for number, text in doubled(self.api_key, self.api_keys)
            ),
        ]
        if found:
            raise Conflicts(found)
        return self

    @property
    def show_pages(self) -> bool:
        """Whether the demo pages are served: by default only where anybody may try."""
        return self.auth.mode == "open" if self.pages is None else self.pages

    @property
    def api_open(self) -> bool:
        """Whether the HTTP API lets in who shows nothing: who is asked for no name is asked for no
        key either, where only this machine reaches us and nobody was given one."""
        keys = any(True for _ in self.backends())
        return self.auth.mode == "open" and is_loopback(self.host) and not keys

    @property
    def tls(self) -> bool:
        """Whether the server itself speaks TLS."""
        return self.ssl_certfile is not None

    def catalog(self) -> RoomCatalog:
        """The options of rooms by pattern of their names; those of our own rooms come first."""
        own = [(report_figures.ROOM, report_figures.OPTIONS)] if self.show_pages else []
        return RoomCatalog([*own, *((rule.match, rule.options()) for rule in self.rooms)])

    def backends(self) -> Iterator[tuple[str, Backend]]:
        """Every API key, and who shows it."""
        return backends(self.api_key, self.api_keys)

    def with_hmac_secret(self, secret: str) -> Self:
        """The same settings with a key made for this run."""
        auth = self.auth.model_copy(update={"hmac_secret": SecretStr(secret)})
        return self.model_copy(update={"auth": auth})

    def describe(self) -> list[str]:
        """The settings in force as lines of TOML, secrets hidden, with who decided each."""
        return list(effective(self, self._sources))

    def _open_to_strangers(self) -> list[tuple[Location, str]]:
        if self.auth.mode != "open" or self.allow_anonymous or is_loopback(self.host):
            return []
        text = (
            f"is {self.host}, which others can reach, and in open mode they could use any name. "
            "Set HUBBUB_AUTH__MODE=jwt and a key (HUBBUB_AUTH__HMAC_SECRET, "
            "HUBBUB_AUTH__PUBLIC_KEY_FILE or HUBBUB_AUTH__JWKS_URL), or start with "
            "--allow-anonymous if that is intended"
        )
        return [(("host",), text)]

    def _missing_partners(self) -> list[tuple[Location, str]]:
        found: list[tuple[Location, str]] = []
        if self.auth.mode == "jwt" and not self.auth.has_key:
            text = (
                "is jwt, which needs HUBBUB_AUTH__HMAC_SECRET, HUBBUB_AUTH__PUBLIC_KEY_FILE "
                "or HUBBUB_AUTH__JWKS_URL"
            )
            found.append((("auth", "mode"), text))
        if self.backend == "redis" and self.redis_url is None:
            found.append((("backend",), "is redis, which needs HUBBUB_REDIS_URL"))
        if self.redis_replicas and self.backend != "redis":
            text = f"is {self.redis_replicas}, which only the backend redis has"
            found.append((("redis_replicas",), text))
        if self.workers > 1 and self.backend == "memory":
            text = (
                f"is {self.workers}, and rooms in the memory of one process are not those of "
                "another: set HUBBUB_BACKEND=redis and HUBBUB_REDIS_URL, or leave it at 1"
            )
            found.append((("workers",), text))
        if (self.ssl_certfile is None) != (self.ssl_keyfile is None):
            alone, other = ("certfile", "KEYFILE") if self.ssl_certfile else ("keyfile", "CERTFILE")
            found.append(((f"ssl_{alone}",), f"needs HUBBUB_SSL_{other} beside it"))
        return found

    def _two_ports(self) -> list[tuple[Location, str]]:
        host, port = self.operations.host, self.operations.port
        if port is None and host != LOOPBACK:
            return [(("operations", "host"), "needs HUBBUB_OPERATIONS__PORT beside it")]
        if port and port == self.port:
            text = (
                f"is {port}, where clients come: take another port, or leave it out to have "
                "everything on one"
            )
            return [(("operations", "port"), text)]
        return []

    def _unusable_tls(self) -> list[tuple[Location, str]]:
        if self.ssl_certfile is None or self.ssl_keyfile is None:
            return []
        try:
            # The empty password keeps OpenSSL from asking at the terminal.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
                self.ssl_certfile, self.ssl_keyfile, password=lambda: ""
            )
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or type(error).__name__
            text = f"and its key cannot be used ({reason}): both in PEM form, the key unencrypted"
            return [(("ssl_certfile",), text)]
        return []

    def _cramped(self) -> list[tuple[Location, str]]:
        found: list[tuple[Location, str]] = []
        least = _OUTBOX_FRAMES * self.limits.frame_bytes
        if self.limits.outbox_bytes < least:
            text = f"must hold {_OUTBOX_FRAMES} frames of limits.frame_bytes: at least {least}"
            found.append((("limits", "outbox_bytes"), text))
        for number, rule in enumerate(self.rooms):
            for first, earlier in enumerate(self.rooms[:number]):
                if earlier.covers(rule):
                    text = f'never applies: number {first + 1} (match="{earlier.match}") does first'
                    found.append((("rooms", number), text))
                    break
        return found


def load_settings(
    environ: Mapping[str, str], config: Path | None, overrides: Mapping[str, object]
) -> Settings:
    """Settings from the mapping, the file (`hubbub.toml` if there is one, when None) and flags.

    Raises SettingsError with every problem found.
    """
    given = read_sources(Settings, environ, config, overrides)
    try:
        settings = _build(given)
    except ValidationError as error:
        found = list(problems(error, given, Settings))
    else:
        settings._sources.update(
            {file_name(location): given.source(location) for location, _ in leaves(Settings)}
        )
        return settings
    # Raised out here: the validation error holds the values, secrets among them.
    raise SettingsError(*found)


def _build(given: Given) -> Settings:
    sources: tuple[PydanticBaseSettingsSource, ...] = (
        InitSettingsSource(Settings, init_kwargs=dict(given.overrides)),
        Environment(Settings, given.environ),
        InitSettingsSource(Settings, init_kwargs=dict(given.tables)),
    )
    # The argument is documented by pydantic-settings and unknown to the type of the model.
    return Settings(_build_sources=(sources, {}))  # type: ignore[call-arg]
