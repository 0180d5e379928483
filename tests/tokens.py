"""Tokens as somebody else's backend would make them, good and bad."""

import time
from collections.abc import Callable
from typing import Any

import jwt

SECRET = "a-secret-of-more-than-thirty-two-bytes"
OTHER_SECRET = "another-secret-of-over-thirty-two-bytes"
JWT: dict[str, Any] = {"auth": {"mode": "jwt", "hmac_secret": SECRET}}
"""Settings of a server that asks everybody for a token."""


def claims(user: str, expires_in: float = 600.0, /, **further: object) -> dict[str, Any]:
    """The claims of a token for `user`; `expires_in` is seconds."""
    return {"sub": user, "exp": time.time() + expires_in, **further}


def token(user: str, expires_in: float = 600.0, /, **further: object) -> str:
    """A token that a server with SECRET accepts."""
    return jwt.encode(claims(user, expires_in, **further), SECRET, algorithm="HS256")


def _without(claim: str) -> Callable[[str], str]:
    def make(user: str) -> str:
        kept = {name: value for name, value in claims(user).items() if name != claim}
        return jwt.encode(kept, SECRET, algorithm="HS256")

    return make


def _of_another_family(user: str) -> str:
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    return jwt.encode(claims(user), key, algorithm="ES256")


BAD_TOKENS: dict[str, tuple[Callable[[str], str], str]] = {
    "wrong signature": (lambda user: jwt.encode(claims(user), OTHER_SECRET), "token_invalid"),
    "expired": (lambda user: token(user, -60), "token_expired"),
    "alg none": (lambda user: jwt.encode(claims(user), "", algorithm="none"), "token_invalid"),
    "no sub": (_without("sub"), "token_invalid"),
    "no exp": (_without("exp"), "token_invalid"),
    "another family": (_of_another_family, "token_invalid"),
    "not a token": (lambda user: "canary.canary.canary", "token_invalid"),
}
"""What a server with SECRET must refuse: how to make it for a user, and how the reason begins."""
