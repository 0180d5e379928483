"""Port: from a credential to an identity."""

from abc import abstractmethod
from typing import Protocol

from domain.grants import Identity


class Authenticator(Protocol):
    """Verifies bearer tokens. Safe to call concurrently."""

    __slots__ = ()

    @property
    @abstractmethod
    def healthy(self) -> bool:
        """False while good tokens cannot be told from bad ones."""

    @abstractmethod
    async def run(self) -> None:
        """Keep what is needed fresh, until cancelled. May return where there is nothing to do."""

    @abstractmethod
    async def authenticate(self, token: str) -> Identity:
        """Verify a token. Does not wait where what it takes to check it is known already.

        Raises TokenInvalid, TokenExpired or TokenRevoked; never anything else for any input,
        and never with the token in its text. Raises Unavailable when keys cannot be had now.
        """
