"""Use case: somebody pages through a room's log."""

from application.ports.broadcasting import Broker
from domain.errors import NotGranted
from domain.grants import Action, Caller
from domain.identifiers import room_id
from domain.options import RoomCatalog
from domain.timeline import Page, PageRequest


class ReadHistory:
    def __init__(self, broker: Broker, catalog: RoomCatalog) -> None:
        self._broker = broker
        self._catalog = catalog

    async def __call__(self, caller: Caller, name: str, request: PageRequest) -> Page:
        """Raises BadName, NotGranted, Unavailable."""
        room = room_id(name)
        if not caller.may(Action.HISTORY, room):
            raise NotGranted(f"no grant to read the history of {room}")
        return await self._broker.page(room, request, self._catalog.of(room).keep)
