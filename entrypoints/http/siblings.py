"""Workers of one machine tell each other what they know, so that any of them answers for all."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

logger = logging.getLogger("hubbub.workers")

_PATIENCE = 1.0  # seconds for a sibling's answer


class Siblings:
    """Each worker has a socket in a folder that only this user may enter."""

    def __init__(self, folder: Path | None, node: str) -> None:
        """`folder` None: there are none."""
        self._folder = folder
        self._node = node

    @asynccontextmanager
    async def telling(self, topics: Mapping[str, Callable[[str], bytes]]) -> AsyncIterator[None]:
        """Answer them, while inside: a topic gets the details of a question."""
        if self._folder is None:
            yield
            return

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                topic, _, details = (await reader.readline()).decode().rstrip().partition(" ")
                if topic in topics:  # nothing: one that was gone before it asked
                    writer.write(topics[topic](details))
                    await writer.drain()
            except OSError as error:
                logger.info("a sibling did not take what it asked for: %s", error)
            finally:
                writer.close()

        path = self._folder / self._node
        server = await asyncio.start_unix_server(answer, path)
        try:
            yield
        finally:
            server.close()
            path.unlink(missing_ok=True)

    async def ask(self, topic: str, details: str = "") -> dict[str, bytes]:
        """What the others say, by node; those that do not answer are left out. `details` are on
        one line."""
        if self._folder is None:
            return {}
        others = [path for path in sorted(self._folder.iterdir()) if path.name != self._node]
        answers = await asyncio.gather(
            *(_ask(path, f"{topic} {details}\n".encode()) for path in others)
        )
        return {
            path.name: answer
            for path, answer in zip(others, answers, strict=True)
            if answer is not None
        }


async def _ask(path: Path, question: bytes) -> bytes | None:
    try:
        async with asyncio.timeout(_PATIENCE):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                writer.write(question)
                return await reader.read()
            finally:
                writer.close()
    except (OSError, TimeoutError) as error:
        logger.warning("no answer of worker %s: %r", path.name, error)
        return None
