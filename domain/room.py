"""The rules of one room: which drafts pass, and how much of its presence is shown."""

from domain.errors import NotGranted, NotJoined
from domain.grants import Action, Caller
from domain.identifiers import RoomId
from domain.options import PresenceMode, PublishPolicy, RoomOptions

_CALM = 0.75  # a crowded room is listed again under this share of its presence limit


class Room:
    """One room on this node. Created by whoever needs it first; holds no members."""

    __slots__ = ("crowded", "id", "options")

    def __init__(self, room: RoomId, options: RoomOptions) -> None:
        self.id = room
        self.options = options
        self.crowded = options.presence is PresenceMode.COUNT

    @property
    def keeps_presence(self) -> bool:
        return self.options.presence is not PresenceMode.OFF

    def admit(self, caller: Caller, *, member: bool) -> None:
        """Whether somebody may publish here. Raises NotGranted or NotJoined.

        A backend is nobody's member: its grants decide alone.
        """
        policy = self.options.publish
        if policy is not PublishPolicy.GRANTED and not caller.is_backend:
            if policy is PublishPolicy.BACKEND:
                raise NotGranted(f"only the backend publishes to {self.id}")
            if not member:
                raise NotJoined(f"join {self.id} before publishing to it")
        if not caller.may(Action.PUBLISH, self.id):
            raise NotGranted(f"no grant to publish to {self.id}")

    def crowds(self, count: int) -> bool:
        """Note how many users there are. Returns True while the room is too full to list.

        The way back down has a margin, so that a room at its limit does not flicker. Calming
        down is for the caller to take note of with `calm`, once everybody got the list.
        """
        if count > self.options.presence_limit:
            self.crowded = True
        return self.crowded

    def calms(self, count: int) -> bool:
        """Whether a crowded room may be listed again."""
        return (
            self.options.presence is PresenceMode.LIST
            and self.crowded
            and count < self.options.presence_limit * _CALM
        )

    def calm(self) -> None:
        """List the room again."""
        self.crowded = False
