"""Authenticator over JSON Web Tokens.

The library checks signatures; claims are checked here, because its defaults let a token without
`exp` through, read the clock themselves and raise more than their documented errors.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence

import jwt
import msgspec
from jwt.algorithms import HMACAlgorithm

from adapters.tokens.keys import HMAC, PUBLIC, MoreKeys, VerificationKey
from application.ports.authentication import Authenticator
from domain.errors import BadName, HubbubError, TokenExpired, TokenInvalid, Unauthenticated
from domain.grants import DEFAULT_GRANTS, Grants, Identity
from domain.identifiers import UserId, user_id

MAX_TOKEN = 8 * 1024  # characters; looked at before anything is decoded
MAX_INFO = 1024  # bytes: it is in every list of members
_MAX_INFO_DEPTH = 64
_LATEST = 253_402_300_799.0  # the end of the year 9999: timers cannot be set for what is beyond

_log = logging.getLogger(__name__)


class _NoKey(Exception):
    """There may be a key for it by now, where keys come and go."""


class _Claims(msgspec.Struct):
    # Decoding is strict: a bool is no number, a number in quotes is none either, and null is not
    # the same as absent, so that `"rooms": null` cannot mean the default grants.
    sub: str
    exp: int | float
    iss: str | msgspec.UnsetType = msgspec.UNSET
    aud: str | list[str] | msgspec.UnsetType = msgspec.UNSET
    nbf: int | float | msgspec.UnsetType = msgspec.UNSET
    iat: int | float | msgspec.UnsetType = msgspec.UNSET
    jti: str | msgspec.UnsetType = msgspec.UNSET
    rooms: dict[str, list[str]] | msgspec.UnsetType = msgspec.UNSET
    info: msgspec.Raw = msgspec.Raw(b"null")


class _UncheckedHmac(HMACAlgorithm):
    """Without the warning for a secret shorter than its hash: MIN_SECRET is checked at start."""

    def check_key_length(self, key: bytes) -> str | None:
        return None


def _signatures() -> jwt.PyJWS:
    jws = jwt.PyJWS()
    for name, digest in zip(
        HMAC, (HMACAlgorithm.SHA256, HMACAlgorithm.SHA384, HMACAlgorithm.SHA512), strict=True
    ):
        jws.unregister_algorithm(name)
        jws.register_algorithm(name, _UncheckedHmac(digest))
    return jws


class JwtAuthenticator(Authenticator):
    """Verifies tokens with keys given at the start, and with `more` that come and go.

    `leeway` (seconds) forgives clocks that differ, for `exp`, `nbf` and `iat`. A token with an
    `aud` is accepted when no audience is configured: then its issuer is trusted for everything
    it signs. Without keys every token is invalid. A token is waited with only when its key is not
    known.
    """

    __slots__ = ("_audience", "_clock", "_issuer", "_jws", "_keys", "_leeway", "_more")

    def __init__(
        self,
        keys: Sequence[VerificationKey],
        *,
        more: MoreKeys | None = None,
        issuer: str | None = None,
        audience: str | None = None,
        leeway: float = 5.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys = tuple(keys)
        self._more = more
        self._issuer = issuer
        self._audience = audience
        self._leeway = leeway
        self._clock = clock
        self._jws = _signatures()

    @property
    def healthy(self) -> bool:
        """See the port."""
        return self._more is None or self._more.usable

    async def run(self) -> None:
        """See the port."""
        if self._more is not None:
            await self._more.run()

    async def authenticate(self, token: str) -> Identity:
        """See the port."""
        outcome = self._judge(token)
        if outcome is None and self._more is not None:
            await self._more.look_again()
            outcome = self._judge(token)
        if isinstance(outcome, Identity):
            return outcome
        raise outcome or TokenInvalid("no key is known for this token")

    def _judge(self, token: str) -> Identity | HubbubError | None:
        """None for want of a key. A refusal is a new one, so that no exception that carries the
        token is its context."""
        try:
            return self._identify(token)
        except _NoKey:
            return None
        except Unauthenticated as refusal:
            return type(refusal)(refusal.message)
        except Exception as unexpected:
            # Parsers of hostile input raise more than they say (seen: UnicodeEncodeError,
            # RecursionError), and a door must not fall over one of them.
            _log.debug("a token was refused with %s", type(unexpected).__name__)
            return TokenInvalid("the token cannot be read")

    def _identify(self, token: str) -> Identity:
        claims = self._claims(token)
        self._check_parties(claims)
        user = _user(claims.sub)
        info = _canonical(bytes(claims.info))
        grants = _grants(claims.rooms)
        issued_at = self._check_times(claims)
        return Identity(
            user=user,
            grants=grants,
            info=info,
            expires_at=float(min(claims.exp, _LATEST)),
            token_id=None if claims.jti is msgspec.UNSET else claims.jti,
            issued_at=issued_at,
        )

    def _claims(self, token: str) -> _Claims:
        if len(token) > MAX_TOKEN:
            raise TokenInvalid(f"the token is longer than {MAX_TOKEN} characters")
        payload = self._verified_payload(token)
        try:
            return msgspec.json.decode(payload, type=_Claims)
        except msgspec.ValidationError as error:
            raise TokenInvalid(f"claims: {error}") from None

    def _verified_payload(self, token: str) -> bytes:
        try:
            header = self._jws.get_unverified_header(token)
            if "crit" in header:
                raise TokenInvalid("the token demands an extension that is not known here")
            return self._first_match(token, header.get("alg"), header.get("kid"))
        except jwt.PyJWTError:
            raise TokenInvalid("the token is malformed") from None

    def _first_match(self, token: str, algorithm: object, key_id: str | None) -> bytes:
        keys = [key for key in self._keys if algorithm in key.algorithms]
        more = self._more.find(algorithm, key_id) if self._more is not None else ()
        for key in (*keys, *more):
            try:
                payload: bytes = self._jws.decode(token, key.material, list(key.algorithms))
            except jwt.InvalidSignatureError:
                continue
            return payload
        if self._more is not None and algorithm in PUBLIC and not (key_id and more):
            raise _NoKey
        if not keys and not more:
            raise TokenInvalid("no key is configured for the token's algorithm")
        raise TokenInvalid("the signature does not match")

    def _check_parties(self, claims: _Claims) -> None:
        if self._issuer is not None and claims.iss != self._issuer:
            raise TokenInvalid("iss is not the configured issuer")
        if self._audience is not None:
            audiences = [claims.aud] if isinstance(claims.aud, str) else claims.aud
            if audiences is msgspec.UNSET or self._audience not in audiences:
                raise TokenInvalid("aud does not hold the configured audience")

    def _check_times(self, claims: _Claims) -> float | None:
        now = self._clock()
        if claims.nbf is not msgspec.UNSET and claims.nbf > now + self._leeway:
            raise TokenInvalid("the token is not valid yet")
        issued_at = None
        if claims.iat is not msgspec.UNSET:
            # A token from the future would outlive a revocation of everything issued before now.
            if not 0 <= claims.iat <= now + self._leeway:
                raise TokenInvalid("iat is not in the past")
            issued_at = float(claims.iat)
        # The sums stand on our side: an integer of 400 digits compares with a float, but it
        # cannot be added to one.
        if claims.exp <= now - self._leeway:
            raise TokenExpired("the token has expired")
        return issued_at


def _user(sub: str) -> UserId:
    try:
        return user_id(sub)
    except BadName as error:
        raise TokenInvalid(f"sub: {error.message}") from None


def _grants(rooms: dict[str, list[str]] | msgspec.UnsetType) -> Grants:
    if rooms is msgspec.UNSET:
        return DEFAULT_GRANTS
    try:
        return Grants(rooms)
    except ValueError as error:
        raise TokenInvalid(f"rooms: {str(error)[:100]}") from None


def _canonical(info: bytes) -> bytes:
    """Decode and encode `info` once, so that its bytes can be spliced into frames."""
    try:
        value = msgspec.json.decode(info)
    except (ValueError, RecursionError):
        raise TokenInvalid("info is not JSON that can be passed on") from None
    for item, depth in _items(value):
        if depth > _MAX_INFO_DEPTH:
            raise TokenInvalid(f"info is nested deeper than {_MAX_INFO_DEPTH}")
        if isinstance(item, int) and not _fits_double(item):
            raise TokenInvalid("info holds a number outside the range of JSON readers")
    encoded = msgspec.json.encode(value)
    if len(encoded) > MAX_INFO:
        raise TokenInvalid(f"info has more than {MAX_INFO} bytes")
    return encoded


def _items(value: object) -> Iterator[tuple[object, int]]:
    """Every container and scalar in a decoded value, with the number of containers around and
    including it."""
    stack: list[tuple[object, int]] = [(value, 0)]
    while stack:
        item, outside = stack.pop()
        depth = outside + isinstance(item, dict | list)
        yield item, depth
        if isinstance(item, dict):
            stack.extend((child, depth) for child in item.values())
        elif isinstance(item, list):
            stack.extend((child, depth) for child in item)


def _fits_double(number: int) -> bool:
    try:
        float(number)
    except OverflowError:
        return False
    return True
