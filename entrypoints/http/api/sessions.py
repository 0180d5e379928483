"""Sessions of all workers on this machine, as one list."""

import logging
from heapq import nlargest
from operator import attrgetter

import msgspec

from application.list_sessions import PAGE, ListSessions, SessionInfo
from domain.grants import Caller
from domain.identifiers import user_id
from entrypoints.http.api.shapes import Session, SessionsPage
from entrypoints.http.siblings import Siblings

logger = logging.getLogger("hubbub.workers")

_encode = msgspec.json.Encoder().encode


class _Question(msgspec.Struct):
    user: str | None
    limit: int


class Sessions:
    """Asks the use case here, and the other workers for what theirs says."""

    def __init__(self, list_sessions: ListSessions, siblings: Siblings, node: str) -> None:
        """`node` is the name of this one."""
        self._list = list_sessions
        self._siblings = siblings
        self._node = node

    async def __call__(self, caller: Caller, user: str | None, limit: int) -> bytes:
        """Raises NotGranted, BadName."""
        self._list.allow(caller)
        question = _Question(None if user is None else user_id(user), min(limit, PAGE))
        others = await self._siblings.ask("sessions", _encode(question).decode())
        pages = [self._here(question)]
        pages += [page for page in map(_read, others.values()) if page is not None]
        found = [session for page in pages for session in page.sessions]
        slowest = nlargest(question.limit, found, key=attrgetter("waiting"))
        return _encode(SessionsPage(self._node, sum(page.count for page in pages), slowest))

    def tell(self, question: str) -> bytes:
        """The answer to another worker."""
        return _encode(self._here(msgspec.json.decode(question, type=_Question)))

    def _here(self, question: _Question) -> SessionsPage:
        found = self._list(question.user, question.limit)
        return SessionsPage(
            self._node, found.total, [self._session(info) for info in found.sessions]
        )

    def _session(self, info: SessionInfo) -> Session:
        return Session(
            session_id=info.id,
            user=info.user,
            door=info.door,
            address=info.address,
            rooms=info.rooms,
            waiting=info.waiting,
            age=round(info.age, 3),
            node=self._node,
        )


def _read(answer: bytes) -> SessionsPage | None:
    """None for half of an answer, whose worker has ended."""
    try:
        return msgspec.json.decode(answer, type=SessionsPage)
    except msgspec.DecodeError:
        logger.warning("a worker ended while it told its sessions")
        return None
