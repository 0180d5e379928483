"""Keeps a connection up: comes back when it is lost, renews its token, notices when it is dead."""

import asyncio
import logging
from collections.abc import Callable

from hubbub_client.backoff import Backoff, Ending
from hubbub_client.clock import Moment
from hubbub_client.command import Answer
from hubbub_client.conversation import Conversation
from hubbub_client.credentials import Credentials
from hubbub_client.errors import Disconnected
from hubbub_client.link import Link, NoLink, Route, endpoint
from hubbub_client.liveness import Liveness, Verdict
from hubbub_client.messages import Frame
from hubbub_client.state import State, StateChange
from hubbub_client.stream import Discontinuity

logger = logging.getLogger("hubbub_client")

_GREETING = 10.0  # seconds the server has to say `connected`
_FAREWELL = 5.0  # seconds from the announcement of a close to the close
_UNAUTHORIZED, _FORBIDDEN, _TOKEN_EXPIRED = 4001, 4003, 4101
_RENEWED = 1.0  # seconds at least from a token to the next, which may be the same
_LOOK_AT_CLOCK = 1.0  # seconds at most between two looks whether the token is due


class Keeper:
    """`work` is set when the conversation may have something to send. `grace`: seconds the server
    may be silent beyond its ping interval."""

    def __init__(
        self,
        url: str,
        user: str | None,
        route: Route,
        conversation: Conversation,
        work: asyncio.Event,
        credentials: Credentials,
        backoff: Backoff,
        grace: float,
        tell: Callable[[StateChange], None],
    ) -> None:
        """Raises ValueError for what is no address of a server."""
        endpoint(url)
        self._url = url
        self._named = user
        self._route = route
        self._conversation = conversation
        self._work = work
        self._credentials = credentials
        self._backoff = backoff
        self._grace = grace
        self._tell = tell
        self._link: Link | None = None
        self._fetched_again = False  # a token, after the server called the one before expired

    async def run(self) -> None:
        """Returns when the server does not want us back."""
        while True:
            ending = await self._connection()
            if self._conversation.over is not None:
                return
            self._conversation.lost()
            delay = self._comes_back(ending)
            if delay is None:
                self.end(ending.code, ending.reason)
                return
            self._tell(StateChange(State.OFFLINE, ending.code, ending.reason, delay))
            await asyncio.sleep(delay)

    async def goodbye(self) -> None:
        """Close the connection, if there is one, so that the server sees us leave."""
        if self._link is not None:
            await self._link.close()

    def end(self, code: int, reason: str) -> None:
        """Nothing happens any more. Only the first end counts."""
        if self._conversation.over is None:
            self._conversation.end(Disconnected(code, reason))
            self._tell(StateChange(State.CLOSED, code, reason))

    def _comes_back(self, ending: Ending) -> float | None:
        """Seconds until the next try, None for never."""
        renewable = self._credentials.renewable
        if ending.code == _UNAUTHORIZED and ending.reason.startswith("token_expired"):
            if not renewable or self._fetched_again:
                return None
            self._fetched_again = True
            self._credentials.forget()
            return 0.0
        if ending.code == _TOKEN_EXPIRED:
            self._credentials.forget()
            return self._backoff.after(ending) if renewable else None
        return None if ending.final else self._backoff.after(ending)

    # One connection

    async def _connection(self) -> Ending:
        self._tell(StateChange(State.CONNECTING))
        try:
            token = await self._credentials.token(Moment.now())
        except Exception as error:
            logger.warning("no token to connect with", exc_info=True)
            return Ending(1006, f"no token: {error}")
        user = self._named
        if user is None and not self._credentials.given:
            user = self._conversation.user  # a guest comes back under the same name
        try:
            link = await Link.open(endpoint(self._url, user), token, self._route)
        except NoLink as failure:
            return failure.ending
        self._link = link
        try:
            return await self._converse(link)
        finally:
            self._link = None
            link.cut("over")

    async def _converse(self, link: Link) -> Ending:
        try:
            greeting = await self._greeted(link)
        except Discontinuity as fault:
            link.cut(str(fault))
            greeting = None
        if greeting is None:
            return link.ending(lived=0.0)
        began = Moment.now()
        self._credentials.lasts(greeting.get("expires_in"), began)
        self._fetched_again = False
        self._conversation.begin(greeting)
        self._tell(StateChange(State.CONNECTED))
        async with asyncio.TaskGroup() as tasks:
            beside = [
                tasks.create_task(self._send(link)),
                tasks.create_task(self._watch(link, greeting["ping_interval"])),
                tasks.create_task(self._keep_token()),
            ]
            await self._receive(link)
            for task in beside:
                task.cancel()
        return link.ending(lived=Moment.now().steady - began.steady)

    async def _greeted(self, link: Link) -> Frame | None:
        """The `connected` frame, None if it did not come."""
        try:
            async with asyncio.timeout(_GREETING):
                while (frame := await link.receive()) is not None:
                    if frame.get("type") == "connected":
                        return self._checked(link, frame)
                    if frame.get("type") == "disconnect":
                        link.farewell = frame
        except TimeoutError:
            link.cut("no greeting")
        return None

    def _checked(self, link: Link, greeting: Frame) -> Frame | None:
        """Keys and positions are one user's: another one must not go on with them."""
        user, found = self._conversation.user, greeting.get("user_id")
        if found is None or not isinstance(greeting.get("ping_interval"), int | float):
            link.cut("this is no hubbub server")
            return None
        if user is None or user == found:
            return greeting
        link.farewell = {"code": _FORBIDDEN, "reason": f"the token is {found}'s, not {user}'s"}
        return None

    async def _receive(self, link: Link) -> None:
        """Until the end of the connection."""
        try:
            async with asyncio.timeout(None) as patience:
                while (frame := await link.receive()) is not None:
                    if frame.get("type") == "disconnect":
                        link.farewell = frame
                        patience.reschedule(asyncio.get_running_loop().time() + _FAREWELL)
                    self._conversation.received(frame, Moment.now())
        except TimeoutError:
            link.cut("no close after the farewell")
        except Discontinuity as fault:
            logger.warning("coming back from the last position: %s", fault)
            link.cut(str(fault))
        except (KeyError, TypeError, ValueError) as fault:
            logger.warning("a frame that cannot be understood", exc_info=True)
            link.cut(f"a frame that cannot be understood: {fault!r}")

    async def _send(self, link: Link) -> None:
        while True:
            self._work.clear()
            command, wait = self._conversation.next(Moment.now())
            if command is None:
                await wake(self._work, wait)
            elif not await link.send(command.text):
                return

    async def _watch(self, link: Link, ping_interval: float) -> None:
        liveness = Liveness(ping_interval, self._grace, Moment.now())
        while True:
            await asyncio.sleep(liveness.next_look())
            waiting_since = self._conversation.waiting_since
            match liveness.look(Moment.now(), link.heard_at, waiting_since):
                case Verdict.ASK:
                    self._conversation.say.ping()
                case Verdict.DEAD:
                    link.cut("no sign of life")
                    return

    # The token of a connection that lasts

    async def _keep_token(self) -> None:
        while True:
            wait = self._credentials.refresh_in(Moment.now())
            if wait is None:
                return
            if wait:
                await asyncio.sleep(min(wait, _LOOK_AT_CLOCK))
                continue
            tries = 0
            while not await self._refresh():
                await asyncio.sleep(self._backoff.wait(tries))
                tries += 1
            await asyncio.sleep(_RENEWED)

    async def _refresh(self) -> bool:
        """Whether the server took a new token."""
        try:
            token = await self._credentials.renew()
        except Exception:
            logger.warning("no token to go on with", exc_info=True)
            return False
        answer = Answer()
        self._conversation.say.command("auth", answer, token=token)
        reply = await answer.given()
        if not isinstance(reply, dict):
            logger.warning("the server did not take a new token: %s", reply)
            return False
        self._credentials.lasts(reply.get("expires_in"), Moment.now())
        return True


async def wake(event: asyncio.Event, within: float | None) -> None:
    """Wait for an event, or for a time in seconds; None is for ever."""
    try:
        async with asyncio.timeout(within):
            await event.wait()
    except TimeoutError:
        return
