"""Reading a JSON Web Key Set (RFC 7517), as an issuer publishes the keys of its tokens.

Keys that are not for us (to encrypt with, of a kind not taken here) are left out, as the RFC
wants it. The names of keys are only ever compared.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jwt
import msgspec
from jwt.algorithms import AllowedPublicKeys, ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from adapters.tokens.keys import KeyUnusable, VerificationKey, public_key

_MAX_KEYS = 64
_READERS: dict[str, type[RSAAlgorithm] | type[ECAlgorithm] | type[OKPAlgorithm]] = {
    "RSA": RSAAlgorithm,
    "EC": ECAlgorithm,
    "OKP": OKPAlgorithm,
}


class KeySetUnusable(ValueError):
    """What was read is no set of keys; the text repeats nothing of it but numbers and words of
    the RFC."""


class KeySet(NamedTuple):
    """Keys by the name they have, None for those without. `left_out` says why others are not in
    it, one text for each."""

    named: Mapping[str | None, Sequence[VerificationKey]]
    left_out: tuple[str, ...]

    def find(self, algorithm: object, key_id: str | None) -> list[VerificationKey]:
        """The keys for a token that names one, or, when it names none, all that could be it."""
        if key_id is not None:
            candidates = self.named.get(key_id, ())
        else:
            candidates = [key for keys in self.named.values() for key in keys]
        return [key for key in candidates if algorithm in key.algorithms]


class _Key(msgspec.Struct):
    kty: str
    use: str | msgspec.UnsetType = msgspec.UNSET
    key_ops: list[str] | msgspec.UnsetType = msgspec.UNSET
    alg: str | msgspec.UnsetType = msgspec.UNSET
    kid: str | None = None
    d: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET  # there in private keys only


class _Document(msgspec.Struct):
    keys: list[msgspec.Raw]


def read_key_set(body: bytes) -> KeySet:
    """The keys in a document that can verify tokens. Raises KeySetUnusable when there are none."""
    named: dict[str | None, list[VerificationKey]] = {}
    left_out = []
    for raw in _keys(body):
        try:
            name, key = _read(bytes(raw))
        except KeyUnusable as error:
            left_out.append(str(error))
        else:
            named.setdefault(name, []).append(key)
    if not named:
        why = "; ".join(sorted(set(left_out))[:4])
        raise KeySetUnusable(f"none of its keys can be used: {why}" if why else "it has no keys")
    return KeySet(named, tuple(left_out))


def _keys(body: bytes) -> list[msgspec.Raw]:
    try:
        keys = msgspec.json.decode(body, type=_Document).keys
    except (ValueError, RecursionError):
        raise KeySetUnusable("it is no JSON object with a list of keys") from None
    if len(keys) > _MAX_KEYS:
        raise KeySetUnusable(f"it has {len(keys)} keys, over {_MAX_KEYS}")
    return keys


def _read(raw: bytes) -> tuple[str | None, VerificationKey]:
    """The name of a key, and the key. Raises KeyUnusable."""
    try:
        told = msgspec.json.decode(raw, type=_Key)
        fields = msgspec.json.decode(raw, type=dict[str, Any])
    except (ValueError, RecursionError):
        raise KeyUnusable("a key is malformed") from None
    if told.kty == "oct":
        raise KeyUnusable("a key is a shared secret, and what is published is none")
    if told.d is not msgspec.UNSET:
        raise KeyUnusable("a key is private, and published: whoever read it can sign tokens")
    _check_purpose(told)
    return told.kid, _narrowed(public_key(_material(told.kty, fields)), told.alg)


def _check_purpose(told: _Key) -> None:
    if told.use is not msgspec.UNSET and told.use != "sig":
        raise KeyUnusable("a key is not for signatures")
    if told.key_ops is not msgspec.UNSET and "verify" not in told.key_ops:
        raise KeyUnusable("a key is not for verifying")


def _material(kind: str, fields: dict[str, Any]) -> AllowedPublicKeys:
    reader = _READERS.get(kind)
    if reader is None:
        raise KeyUnusable("a key is of a kind not known here")
    try:
        return reader.from_jwk(fields)  # type: ignore[return-value]  # private ones have a `d`
    except Exception as error:
        # Parsers of foreign input raise more than they say; the name of the class shows nothing.
        name = "is malformed" if isinstance(error, jwt.PyJWTError) else type(error).__name__
        raise KeyUnusable(f"a key cannot be read ({name})") from None


def _narrowed(key: VerificationKey, algorithm: str | msgspec.UnsetType) -> VerificationKey:
    """The key for the one algorithm that its issuer uses it with, if told."""
    if algorithm is msgspec.UNSET:
        return key
    if algorithm not in key.algorithms:
        raise KeyUnusable("a key is for an algorithm that is not taken here")
    return VerificationKey(key.material, (algorithm,))
