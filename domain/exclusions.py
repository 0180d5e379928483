"""Who is not let in although the credential is good."""

from domain.errors import Forbidden, TokenRevoked
from domain.grants import Identity
from domain.identifiers import UserId
from domain.orders import Block, Order, RevokeToken, RevokeTokens, Unblock

REMEMBERED = 30 * 24 * 3600.0  # seconds for which all tokens of a user stay revoked

_PRUNE_FROM = 1024


class Exclusions:
    """Revoked tokens and blocked users, for as long as it matters. Times are unix seconds."""

    __slots__ = ("_blocked", "_prune_at", "_tokens", "_users")

    def __init__(self) -> None:
        self._tokens: dict[str, float] = {}  # token id: when it has expired
        self._users: dict[UserId, tuple[float, float]] = {}  # issued before, remembered until
        self._blocked: dict[UserId, float] = {}  # until
        self._prune_at = _PRUNE_FROM

    def __len__(self) -> int:
        return len(self._tokens) + len(self._users) + len(self._blocked)

    def note(self, order: Order, now: float) -> None:
        """Remember what an order means for those who come later."""
        match order:
            case RevokeToken(token_id, expires_at):
                self._tokens[token_id] = expires_at
            case RevokeTokens(user, issued_before):
                before, _ = self._users.get(user, (0.0, 0.0))
                self._users[user] = (max(before, issued_before), now + REMEMBERED)
            case Block(user, until):
                self._blocked[user] = until
            case Unblock(user):
                self._blocked.pop(user, None)
        if len(self) >= self._prune_at:
            self._prune(now)

    def check(self, identity: Identity, now: float) -> None:
        """Raises TokenRevoked or Forbidden for somebody who is not to come in, or to stay."""
        blocked_until = self._blocked.get(identity.user, 0.0)
        if blocked_until > now:
            raise Forbidden("this user is blocked")
        if identity.token_id is not None and identity.token_id in self._tokens:
            raise TokenRevoked("this token was revoked")
        if identity.expires_at is None:
            return  # not let in by a token
        revoked = self._users.get(identity.user)
        if revoked is not None and (identity.issued_at or 0.0) < revoked[0]:
            raise TokenRevoked("the tokens of this user were revoked")

    def _prune(self, now: float) -> None:
        self._tokens = {token: at for token, at in self._tokens.items() if at > now}
        self._users = {user: kept for user, kept in self._users.items() if kept[1] > now}
        self._blocked = {user: until for user, until in self._blocked.items() if until > now}
        self._prune_at = max(_PRUNE_FROM, 2 * len(self))
