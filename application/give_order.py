"""Use case: somebody has something done to users, on every node."""

from application.ports.control import Control
from domain.errors import Forbidden, NotGranted
from domain.grants import Action, Caller
from domain.identifiers import owner
from domain.orders import Enter, Kick, Order, RevokeToken


class GiveOrder:
    def __init__(self, control: Control) -> None:
        self._control = control

    async def __call__(self, caller: Caller, order: Order) -> None:
        """Returns once the order is on record; it is carried out within a second.

        Raises NotGranted, Forbidden for what nobody may order, Unavailable, OutcomeUnknown (give
        it again: that is harmless).
        """
        _allow(caller, order)
        await self._control.give(order)


def _allow(caller: Caller, order: Order) -> None:
    match order:
        case Enter(room) | Kick(room):
            if not caller.may(Action.MANAGE, room):
                raise NotGranted(f"no grant to manage {room}")
            if owner(room) is not None:
                raise Forbidden("a personal room has one member, always")
        case RevokeToken():
            if not caller.manages(None):  # nobody knows whose token it is
                raise NotGranted("no grant to manage all personal rooms")
        case _:
            if not caller.manages(order.user):
                raise NotGranted(f"no grant to manage the personal room of {order.user}")
