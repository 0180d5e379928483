"""Minting tokens for trying, for tests and for scripts."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from domain.errors import BadName
from domain.grants import Grants
from domain.identifiers import user_id
from entrypoints.durations import seconds
from entrypoints.settings import Settings
from entrypoints.settings_sections import MIN_SECRET

MAX_TOKEN = 8 * 1024  # characters; longer ones are refused by the server
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}

PrivateKey = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey


class CannotMint(Exception):
    """No token can be made of this; the text says what to change and shows no key."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key and the algorithm tokens are signed with."""

    material: bytes | PrivateKey = field(repr=False)
    algorithm: str


@dataclass(frozen=True, slots=True)
class Wish:
    """What a token shall say. `lifetime` is seconds; no `rooms` means the default grants."""

    user: str
    lifetime: int
    rooms: Mapping[str, Sequence[str]] | None = None
    info: object = None


def mint(wish: Wish, key: SigningKey, settings: Settings, now: float) -> str:
    """Sign a token that this configuration accepts. Raises CannotMint."""
    try:
        user = user_id(wish.user)
    except BadName as error:
        raise CannotMint(error.message) from None
    claims: dict[str, object] = {
        "sub": user,
        "iat": int(now),
        "exp": int(now) + wish.lifetime,
        "jti": secrets.token_hex(8),
    }
    optional = {
        "iss": settings.auth.issuer,
        "aud": settings.auth.audience,
        "rooms": wish.rooms,
        "info": wish.info,
    }
    claims |= {name: value for name, value in optional.items() if value is not None}
    token = jwt.encode(claims, key.material, algorithm=key.algorithm)
    if len(token) > MAX_TOKEN:
        raise CannotMint(f"the token would be {len(token)} characters long, over {MAX_TOKEN}")
    return token


def signing_key(
    settings: Settings, secret_file: Path | None, private_key_file: Path | None
) -> SigningKey:
    """The key to sign with: a file's, else the configured HMAC secret. Raises CannotMint."""
    if secret_file is not None and private_key_file is not None:
        raise CannotMint("give either --secret-file or --private-key-file, not both")
    if secret_file is not None:
        return _secret(secret_file)
    if private_key_file is not None:
        return _private_key(private_key_file)
    secret = settings.auth.hmac_bytes
    if secret is not None:
        return SigningKey(secret, "HS256")
    if settings.auth.has_key:
        raise CannotMint(
            "only a public key is configured, and that can check tokens but not sign them: "
            "pass the private one with --private-key-file"
        )
    raise CannotMint(
        "there is no key to sign with: set HUBBUB_AUTH__HMAC_SECRET to the server's secret, "
        "or pass --secret-file or --private-key-file"
    )


def lifetime(duration: str) -> int:
    """Seconds of `--expires`. Raises CannotMint."""
    try:
        return seconds("--expires", duration)
    except ValueError as error:
        raise CannotMint(str(error)) from None


def rooms_claim(grants: Sequence[str]) -> dict[str, list[str]] | None:
    """Read `PATTERN=ACTION,ACTION` texts, None when there are none. Raises CannotMint."""
    rules: dict[str, list[str]] = {}
    for text in grants:
        pattern, separator, actions = text.rpartition("=")
        if not separator:
            raise CannotMint(f"--grant {text!r} is no grant: write it like 'chat:*=join,publish'")
        rules.setdefault(pattern, []).extend(actions.split(","))
    try:
        Grants(rules)
    except ValueError as error:
        raise CannotMint(f"--grant: {error}") from None
    return rules or None


def public_info(text: str | None) -> object:
    """Read the JSON others will be shown. Raises CannotMint."""
    if text is None:
        return None
    try:
        return msgspec.json.decode(text.encode())
    except (ValueError, RecursionError):
        raise CannotMint(
            '--info is not JSON: write it like \'{"name":"Ann"}\', quotes included'
        ) from None


def _read(path: Path, option: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CannotMint(f"{option} {path} cannot be read: {error.strerror}") from None


def _secret(path: Path) -> SigningKey:
    # Editors and `openssl … > file` end a file with a line feed that is not in the variable.
    secret = _read(path, "--secret-file").removesuffix(b"\n").removesuffix(b"\r")
    if len(secret) < MIN_SECRET:
        raise CannotMint(f"--secret-file {path} holds {len(secret)} bytes, under {MIN_SECRET}")
    if secret.startswith(b"-----BEGIN "):
        raise CannotMint(f"--secret-file {path} holds a PEM key: pass it as --private-key-file")
    return SigningKey(secret, "HS256")


def _private_key(path: Path) -> SigningKey:
    pem = _read(path, "--private-key-file")
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise CannotMint(
            f"--private-key-file {path} does not hold an unencrypted private key in PEM form"
        ) from None
    if isinstance(key, RSAPrivateKey):
        return SigningKey(key, "RS256")
    if isinstance(key, EllipticCurvePrivateKey) and key.curve.name in _CURVES:
        return SigningKey(key, _CURVES[key.curve.name])
    if isinstance(key, Ed25519PrivateKey):
        return SigningKey(key, "EdDSA")
    raise CannotMint(f"--private-key-file {path}: use RSA, P-256, P-384, P-521 or Ed25519")
