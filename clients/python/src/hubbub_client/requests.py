"""What a user asks of the server and waits for."""

import asyncio
import uuid
from typing import Any

from hubbub_client.clock import Moment
from hubbub_client.command import Answer, Command, Lost
from hubbub_client.conversation import Conversation
from hubbub_client.errors import HubbubError, Refused
from hubbub_client.messages import Frame, Page, Position, Published
from hubbub_client.seat import Seat


async def publish(
    conversation: Conversation, room: str, data: Any, key: str | None, echo: bool
) -> Published:
    """Raises HubbubError. Once cancelled, it is not sent (again)."""
    answer = Answer()
    fields: dict[str, Any] = {"data": data, "key": key or uuid.uuid4().hex}
    if not echo:
        fields["echo"] = False
    ack = await _answered(conversation, conversation.publish(room, answer, **fields), answer)
    return Published(ack["log"], ack["seq"], ack["message_id"], ack["duplicate"])


async def signal(conversation: Conversation, room: str, data: Any) -> bool:
    """Publish an ephemeral message, and return whether the server took it: there is no second
    try. Raises Refused."""
    if not conversation.takes(room, Moment.now()):
        return False
    answer = Answer()
    conversation.publish(room, answer, data=data, ephemeral=True)
    match await answer.given():
        case Lost() | Refused(retry=True):
            return False
        case HubbubError() as error:
            raise error.with_traceback(None)
    return True


async def history(
    conversation: Conversation,
    room: str,
    before: Position | None,
    after: Position | None,
    limit: int,
) -> Page:
    """Raises Refused, and ValueError for two positions."""
    if before is not None and after is not None:
        raise ValueError("`before` and `after` exclude each other")
    answer = Answer()
    fields: dict[str, Any] = {"limit": limit}
    for name, position in (("before", before), ("after", after)):
        if position is not None:
            fields |= {name: position.seq, "log": position.log}
    command = conversation.say.lasting("history", answer, room, **fields)
    return Page.of(await _answered(conversation, command, answer))


async def leave(conversation: Conversation, seat: Seat) -> None:
    """Returns when the server knows, or the connection is lost."""
    answer = Answer()
    if conversation.rise(seat, answer):
        await answer.given()


async def _answered(conversation: Conversation, command: Command, answer: Answer) -> Frame:
    try:
        outcome = await answer.given()
    except asyncio.CancelledError:
        conversation.say.withdraw(command)
        raise
    if isinstance(outcome, HubbubError):
        raise outcome.with_traceback(None)
    assert isinstance(outcome, dict), "what lasts is not lost"
    return outcome
