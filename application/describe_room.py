"""Use case: somebody asks which options are in force for a room."""

from domain.errors import NotGranted
from domain.grants import Backend, Caller
from domain.identifiers import owner, room_id
from domain.options import RoomCatalog, RoomOptions


class DescribeRoom:
    def __init__(self, catalog: RoomCatalog) -> None:
        self._catalog = catalog

    def __call__(self, caller: Caller, name: str) -> RoomOptions:
        """For whoever may do anything at all in the room. Raises BadName, NotGranted."""
        room = room_id(name)
        owns = not isinstance(caller, Backend) and owner(room) == caller.user
        if not owns and not caller.grants.reaches(room):
            raise NotGranted(f"no grant for {room}")
        return self._catalog.of(room)
