"""The parts of the settings: tables in hubbub.toml, `HUBBUB_<SECTION>__…` in the environment."""

from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, field_validator
from pydantic import model_validator as validator

from domain.options import PresenceMode, PublishPolicy, RoomCatalog, RoomOptions
from entrypoints.bind import is_loopback

LOOPBACK = "127.0.0.1"
MIN_SECRET = 32  # bytes of an HMAC secret
# What stands in the documents in the place of a secret; whoever reads them could use it.
_PUBLISHED = frozenset(
    {
        "at-least-thirty-two-bytes-of-randomness",
        "a-long-random-key",
        "a-long-random-key-too",
    }
)


def _no_bool(value: object) -> object:
    # `port = true` would be port 1.
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")
    return value


Whole = Annotated[int, BeforeValidator(_no_bool)]
Number = Annotated[float, BeforeValidator(_no_bool)]
AtLeastOne = Annotated[Whole, Field(ge=1)]
Seconds = Annotated[Number, Field(gt=0)]
Rate = Annotated[Number, Field(ge=0)]


class Section(BaseModel):
    """Refuses what it does not know, and never shows what it was given."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False
    )


class AuthSettings(Section):
    """Who is let in. With `jwt` every door needs a token; with `open` users name themselves, and
    the keys only serve `/ws/secure`."""

    mode: Literal["open", "jwt"] = "open"
    hmac_secret: SecretStr | None = None
    public_key_file: Path | None = None
    jwks_url: str | None = None
    issuer: str | None = None
    audience: str | None = None

    @field_validator("hmac_secret")
    @classmethod
    def _strong(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is None:
            return None
        text = secret.get_secret_value()
        if text.startswith("-----BEGIN "):
            raise ValueError(
                "is a key in PEM form, not a shared secret; "
                "give the public key with HUBBUB_AUTH__PUBLIC_KEY_FILE"
            )
        if text != text.strip():
            raise ValueError("begins or ends with white space, which is easily lost on the way")
        if not _is_utf8(text):
            raise ValueError("must be UTF-8 text")
        of_our_own_making(text)
        size = len(text.encode())
        if size < MIN_SECRET:
            raise ValueError(
                f"has {size} bytes and needs at least {MIN_SECRET}; "
                "`openssl rand -base64 32` makes a good one"
            )
        return secret

    @field_validator("public_key_file")
    @classmethod
    def _there(cls, path: Path | None) -> Path | None:
        return readable(path)

    @field_validator("jwks_url")
    @classmethod
    def _safe_to_believe(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = _parts(url)
        if not url.isascii() or not url.isprintable() or " " in url or not parts.hostname:
            raise ValueError("must be a URL like https://login.example.com/jwks.json")
        if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host_of(url))):
            raise ValueError("must begin with https://: who changes the keys on the way is let in")
        if "@" in parts.netloc or "#" in url:
            raise ValueError("must have neither a password nor a fragment: it is fetched as it is")
        return url

    @property
    def has_key(self) -> bool:
        """Whether tokens can be verified."""
        given = (self.hmac_secret, self.public_key_file, self.jwks_url)
        return any(key is not None for key in given)

    @property
    def hmac_bytes(self) -> bytes | None:
        """The shared secret as tokens are signed with it."""
        return None if self.hmac_secret is None else self.hmac_secret.get_secret_value().encode()


class LimitSettings(Section):
    """Bounds, all of them per node. Sizes are bytes, rates a second (0: none), times seconds."""

    frame_bytes: Annotated[Whole, Field(ge=128)] = 65_536
    outbox_bytes: AtLeastOne = 1_048_576
    history_bytes: AtLeastOne = 268_435_456
    rooms: AtLeastOne = 100_000
    rooms_per_connection: AtLeastOne = 128
    messages_per_second: Rate = 100.0
    messages_burst: AtLeastOne = 200
    commands_per_second: Rate = 50.0
    commands_burst: AtLeastOne = 100
    connections: AtLeastOne = 10_000
    connections_per_address: AtLeastOne = 1_000
    connections_per_user: AtLeastOne = 100
    handshakes_per_second: Rate = 500.0
    handshakes_burst: AtLeastOne = 1_000
    unauthenticated: AtLeastOne = 1_000
    auth_timeout: Seconds = 5.0


class OperationsSettings(Section):
    """Where metrics and documents are, if not where clients are. `port` None: there."""

    host: Annotated[str, Field(min_length=1)] = LOOPBACK
    port: Annotated[Whole, Field(ge=0, le=65_535)] | None = None


class RoomRule(Section):
    """One `[[rooms]]` table: options for the rooms whose name matches. What is left out is
    decided by RoomOptions."""

    match: str
    history_size: Whole | None = None
    history_ttl: Number | None = None
    presence: PresenceMode | None = None
    presence_limit: Whole | None = None
    publish: PublishPolicy | None = None
    max_members: Whole | None = None
    rate: Number | None = None
    conflate: bool | None = None

    @validator(mode="after")
    def _makes_sense(self) -> Self:
        RoomCatalog([(self.match, self.options())])
        return self

    def options(self) -> RoomOptions:
        """Raises ValueError for values that make no sense."""
        return RoomOptions(**self.model_dump(exclude={"match"}, exclude_none=True))

    def covers(self, other: "RoomRule") -> bool:
        """Whether no room is left for the other rule when this one comes first."""
        if not self.match.endswith("*"):
            return self.match == other.match
        prefix = self.match[:-1]
        # Personal rooms are only matched by patterns that begin with @.
        personal = other.match.startswith("@") and not prefix
        return other.match.startswith(prefix) and not personal


def of_our_own_making(secret: str) -> None:
    """Refuse a secret that was copied from the documents. Raises ValueError."""
    if secret in _PUBLISHED:
        raise ValueError(
            "is the one of the example, which everybody knows; "
            "`openssl rand -base64 32` makes one that nobody does"
        )


def host_of(url: str) -> str:
    """The host in a URL, without brackets."""
    return _parts(url).hostname or ""


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # read and checked only now
    except ValueError:
        raise ValueError("is no URL") from None
    return parts


def readable(path: Path | None) -> Path | None:
    """Refuse a file that cannot be opened. Raises ValueError."""
    if path is None:
        return None
    try:
        with path.open("rb"):
            return path
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None


def _is_utf8(text: str) -> bool:
    # Bytes of the environment that are not UTF-8 arrive as lone surrogates.
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
