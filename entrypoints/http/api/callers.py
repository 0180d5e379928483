"""Who is at the other end of a request: a backend with an API key, or a user with a token."""

import time
from collections.abc import Iterable
from hashlib import sha256
from hmac import compare_digest

from fastapi import Request

from application.ports.authentication import Authenticator
from domain.errors import TokenInvalid, TokenMissing
from domain.exclusions import Exclusions
from domain.grants import ALL_GRANTS, Backend, Caller

_DOTS = 2  # in a JWT

ANYBODY = Backend("anybody", ALL_GRANTS)  # where nobody is asked for a key


class KeyRing:
    """The API keys, as digests."""

    def __init__(self, keys: Iterable[tuple[str, Backend]]) -> None:
        self._keys = [(_digest(key), backend) for key, backend in keys]

    def find(self, credential: str) -> Backend | None:
        """Whose key this is. How long it takes tells nothing of the keys: digests are compared,
        all of them, each in constant time."""
        digest, found = _digest(credential), None
        for known, backend in self._keys:
            if compare_digest(known, digest):
                found = backend
        return found


def _digest(key: str) -> bytes:
    return sha256(key.encode("utf-8", "surrogateescape")).digest()


class Callers:
    """Reads the header Authorization. Called by every route of the API before anything else."""

    def __init__(
        self,
        keys: KeyRing,
        authenticator: Authenticator,
        exclusions: Exclusions,
        *,
        anonymous: bool,
    ) -> None:
        """`anonymous`: who shows nothing is let in, and may do everything."""
        self._keys = keys
        self._authenticator = authenticator
        self._exclusions = exclusions
        self._anonymous = anonymous

    async def __call__(self, request: Request) -> Caller:
        """Raises Unauthenticated, Forbidden for a blocked user, Unavailable."""
        credential = _credential(request.headers.getlist("authorization"))
        if credential is None:
            if self._anonymous:
                return ANYBODY
            raise TokenMissing("an API key or a token is needed: `Authorization: Bearer …`")
        backend = self._keys.find(credential)
        if backend is not None:
            return backend
        if credential.count(".") != _DOTS:
            raise TokenInvalid("this is no API key known here, and no token")
        identity = await self._authenticator.authenticate(credential)
        self._exclusions.check(identity, time.time())
        return identity


def _credential(headers: list[str]) -> str | None:
    if not headers:
        return None
    kind, _, credential = headers[0].partition(" ")
    if len(headers) > 1 or kind.lower() != "bearer" or not credential.strip():
        raise TokenInvalid("Authorization takes one `Bearer` with an API key or a token")
    return credential.strip()
