"""Port: from a credential to an identity."""

from abc import abstractmethod
from typing import Protocol

from domain.grants import Identity


class Authenticator(Protocol):
    """Verifies bearer tokens. Safe to call concurrently."""

    __slots__ = ()

    @abstractmethod
    async def authenticate(self, token: str) -> Identity:
        """Verify a token.

        Raises TokenInvalid, TokenExpired or TokenRevoked; never anything else for any input,
        and never with the token in its text. Raises Unavailable when keys cannot be had now.
        """
