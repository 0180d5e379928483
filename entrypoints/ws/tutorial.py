"""The `/ws…` doors, which a reader of a FastAPI WebSocket tutorial tries first.

Their frames are fixed; behind them is the same hub, with the same limits and guarantees.
"""

import time

import msgspec

from application.framing import binary_frame
from application.join_room import Joined, JoinRoom
from application.ports.broadcasting import Published
from application.ports.encoding import Dialect
from application.publish_message import PublishMessage
from application.session import Session
from domain.errors import BadFrame, HubbubError, NotGranted
from domain.grants import Action, Identity
from domain.identifiers import RoomId, UserId, room_id, user_id
from domain.member import ChangeKind, PresenceChange
from entrypoints.wire import tutorial as wire
from entrypoints.wire.inbound import decode_any, decode_text_object
from entrypoints.ws.connection import Conversation, Door, Spawn, refuse
from entrypoints.ws.credentials import Scope
from entrypoints.ws.gate import Gate
from entrypoints.ws.inbox import Inbox

LOBBY = RoomId("lobby")
EVERYBODY = RoomId("chat:global")


def _text(frame: str | bytes) -> str:
    if isinstance(frame, bytes):
        raise BadFrame("frames are text at this door, not binary")
    return frame


class EchoDoor(Door):
    """`/ws`: JSON in, the same out, and when."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.dialect: Dialect = wire.Silent()

    async def identify(self, scope: Scope, inbox: Inbox) -> tuple[Identity, Conversation]:
        return await self._gate.identify(scope, inbox, None), _Echo()


class _Echo(Conversation):
    _session: Session

    async def begin(self, session: Session, spawn: Spawn) -> None:
        self._session = session

    def received(self, frame: str | bytes) -> None:
        self._session.admit_publish()
        self._session.send(wire.echo(decode_any(_text(frame)), time.time()))


class BinaryDoor(Door):
    """`/ws/binary`: binary in, the same out."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.dialect: Dialect = wire.Silent()

    async def identify(self, scope: Scope, inbox: Inbox) -> tuple[Identity, Conversation]:
        return await self._gate.identify(scope, inbox, None), _Binary()


class _Binary(Conversation):
    _session: Session

    async def begin(self, session: Session, spawn: Spawn) -> None:
        self._session = session

    def received(self, frame: str | bytes) -> None:
        self._session.admit_publish()
        if isinstance(frame, str):
            raise BadFrame("frames are binary at this door, not text")
        self._session.send(binary_frame(frame))


class SecureDoor(Door):
    """`/ws/secure`: only with a token, in any mode."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.dialect: Dialect = wire.Silent()

    async def identify(self, scope: Scope, inbox: Inbox) -> tuple[Identity, Conversation]:
        return await self._gate.identify_by_token(scope), _Secure()


class _Secure(Conversation):
    _session: Session

    async def begin(self, session: Session, spawn: Spawn) -> None:
        self._session = session
        session.send(wire.connected(session.identity.user))

    def received(self, frame: str | bytes) -> None:
        self._session.admit_publish()
        self._session.send(wire.acknowledged(decode_any(_text(frame))))


class HeartbeatDoor(Door):
    """`/ws/heartbeat/{client_id}`: a ping to answer, and the end for who does not."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.dialect: Dialect = wire.Heartbeat()

    async def identify(self, scope: Scope, inbox: Inbox) -> tuple[Identity, Conversation]:
        named = user_id(scope["path_params"]["client_id"])
        return await self._gate.identify(scope, inbox, named), _Heartbeat()


class _Heartbeat(Conversation):
    _session: Session

    def __init__(self) -> None:
        self._ponged = False
        self.heard = self._take_pong

    def _take_pong(self) -> bool:
        ponged, self._ponged = self._ponged, False
        return ponged

    async def begin(self, session: Session, spawn: Spawn) -> None:
        self._session = session

    def received(self, frame: str | bytes) -> None:
        self._session.admit_publish()
        data = decode_any(_text(frame))
        value = msgspec.json.decode(data)
        if isinstance(value, dict) and value.get("type") == "pong":
            self._ponged = True
        else:
            self._session.send(wire.acknowledged(data))


class RoomDoor(Door):
    """A door that leads into one room: lobby, `/ws/rooms/…`, `/ws/scalable/…`."""

    def __init__(
        self,
        gate: Gate,
        join: JoinRoom,
        publish: PublishMessage,
        *,
        dialect: Dialect,
        user_field: str,
        room: RoomId | None = None,
        any_json: bool = False,
        greet: bool = False,
    ) -> None:
        """`room` None: the path names it. `any_json`: frames are data as they are, not
        `{"text": T}`. `greet`: a newcomer is shown its own join."""
        self._gate = gate
        self._join = join
        self._publish = publish
        self._user_field = user_field
        self._room = room
        self._any_json = any_json
        self._greet = greet
        self.dialect = dialect

    async def identify(self, scope: Scope, inbox: Inbox) -> tuple[Identity, Conversation]:
        path = scope["path_params"]
        room = self._room or room_id(path["room_id"])
        named = user_id(path[self._user_field])
        identity = await self._gate.identify(scope, inbox, named)
        for action in (Action.JOIN, Action.PUBLISH):
            if not identity.may(action, room):
                raise NotGranted(f"no grant to {action} {room}")
        return identity, _InRoom(
            room, self._join, self._publish, any_json=self._any_json, greet=self._greet
        )


class _InRoom(Conversation):
    _session: Session

    def __init__(
        self,
        room: RoomId,
        join: JoinRoom,
        publish: PublishMessage,
        *,
        any_json: bool,
        greet: bool,
    ) -> None:
        self._room = room
        self._join = join
        self._publish = publish
        self._decode = decode_any if any_json else decode_text_object
        self._greet = greet

    async def begin(self, session: Session, spawn: Spawn) -> None:
        self._session = session
        await self._join(session, self._room, self._joined)

    def _joined(self, joined: Joined) -> None:
        if self._greet and joined.snapshot is not None:
            identity, snapshot = self._session.identity, joined.snapshot
            user: UserId = identity.user
            own = PresenceChange(
                ChangeKind.JOIN, self._room, user, identity.info, snapshot.count, snapshot.version
            )
            self._session.send(self._session.dialect.presence_change(own))

    def received(self, frame: str | bytes) -> None:
        data = self._decode(_text(frame))
        self._publish(self._session, self._room, data, self._published)

    def _published(self, outcome: Published | HubbubError) -> None:
        if isinstance(outcome, HubbubError):
            refuse(self._session, outcome)
