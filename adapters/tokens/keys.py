"""Keys that verify tokens, each with the algorithms it may be used for and no other."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

MIN_SECRET = 32  # bytes
_MIN_RSA_BITS = 2048
_MAX_RSA_BITS = 8192  # a check of a longer one takes milliseconds, in which nobody is served

HMAC = ("HS256", "HS384", "HS512")
_RSA = ("RS256", "RS384", "RS512")
_CURVES = {"secp256r1": ("ES256",), "secp384r1": ("ES384",), "secp521r1": ("ES512",)}
_EDWARDS = ("EdDSA",)
PUBLIC = frozenset((*_RSA, *_EDWARDS, *(name for names in _CURVES.values() for name in names)))

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey


class KeyUnusable(ValueError):
    """A key cannot verify tokens; the text says why and never shows the key."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A key and the only algorithms it may verify, all of one family: a token cannot have a
    public key used as an HMAC secret by naming another algorithm."""

    material: bytes | PublicKey = field(repr=False)
    algorithms: tuple[str, ...]


class MoreKeys(Protocol):
    """Keys that are kept elsewhere and change."""

    @property
    @abstractmethod
    def usable(self) -> bool:
        """Whether there are keys that may still be believed."""

    @abstractmethod
    def find(self, algorithm: object, key_id: str | None) -> Sequence[VerificationKey]:
        """Known keys for a token whose header says this. Never waits."""

    @abstractmethod
    async def look_again(self) -> None:
        """Wait for what is there now. Returns at once if that was looked up a moment ago. Raises
        Unavailable when it cannot be had."""

    @abstractmethod
    async def run(self) -> None:
        """Run until cancelled."""


def hmac_key(secret: bytes) -> VerificationKey:
    """A shared secret. Raises KeyUnusable when it is too short to withstand guessing."""
    if len(secret) < MIN_SECRET:
        raise KeyUnusable(f"an HMAC secret has at least {MIN_SECRET} bytes, not {len(secret)}")
    return VerificationKey(secret, HMAC)


def public_key(key: object) -> VerificationKey:
    """A public key for the algorithms of its kind. Raises KeyUnusable."""
    if isinstance(key, RSAPublicKey):
        if key.key_size < _MIN_RSA_BITS:
            raise KeyUnusable(f"an RSA key has at least {_MIN_RSA_BITS} bits, not {key.key_size}")
        if key.key_size > _MAX_RSA_BITS:
            raise KeyUnusable(f"an RSA key has at most {_MAX_RSA_BITS} bits, not {key.key_size}")
        return VerificationKey(key, _RSA)
    if isinstance(key, EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return VerificationKey(key, _CURVES[key.curve.name])
    if isinstance(key, Ed25519PublicKey):
        return VerificationKey(key, _EDWARDS)
    raise KeyUnusable("use an RSA, P-256, P-384, P-521 or Ed25519 key")


def load_public_key(path: Path) -> VerificationKey:
    """Read a PEM public key: RSA (from 2048 bits), P-256, P-384, P-521 or Ed25519.

    Raises KeyUnusable.
    """
    try:
        pem = path.read_bytes()
    except OSError as error:
        raise KeyUnusable(f"{path} cannot be read: {error.strerror}") from None
    if b"PRIVATE KEY-----" in pem:
        raise KeyUnusable(f"{path} holds a private key; the server only needs the public one")
    try:
        return public_key(load_pem_public_key(pem))
    except KeyUnusable as error:
        raise KeyUnusable(f"{path}: {error}") from None
    except (ValueError, UnsupportedAlgorithm):
        raise KeyUnusable(f"{path} does not hold a public key in PEM form") from None
