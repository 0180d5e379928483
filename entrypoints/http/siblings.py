"""Workers of one machine tell each other their metrics, so that any of them answers for all."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
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
    async def telling(self, render: Callable[[], bytes]) -> AsyncIterator[None]:
        """Answer them, while inside, with what `render` returns."""
        if self._folder is None:
            yield
            return

        async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                writer.write(render())
                await writer.drain()
            except OSError as error:
                logger.info("a sibling did not take the metrics: %s", error)
            finally:
                writer.close()

        path = self._folder / self._node
        server = await asyncio.start_unix_server(answer, path)
        try:
            yield
        finally:
            server.close()
            path.unlink(missing_ok=True)

    async def metrics(self) -> dict[str, bytes]:
        """What the others rendered, by node; those that do not answer are left out."""
        if self._folder is None:
            return {}
        others = [path for path in sorted(self._folder.iterdir()) if path.name != self._node]
        answers = await asyncio.gather(*map(_ask, others))
        return {
            path.name: answer
            for path, answer in zip(others, answers, strict=True)
            if answer is not None
        }


async def _ask(path: Path) -> bytes | None:
    try:
        async with asyncio.timeout(_PATIENCE):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                return await reader.read()
            finally:
                writer.close()
    except (OSError, TimeoutError) as error:
        logger.warning("no metrics of worker %s: %r", path.name, error)
        return None
