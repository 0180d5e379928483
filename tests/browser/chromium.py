"""The system's Chromium, told what to do by Playwright, which would otherwise download its own."""

import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal, Protocol

from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    async_playwright,
)

from tests.peer import DEADLINE

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
CUT_OFF = r"WebSocket connection to .* failed"  # what the browser says without being asked
DESK, PHONE = 1440, 360

Scheme = Literal["light", "dark"]


class NoChromium(Exception):
    """There is no browser here; the text says so."""


def executable() -> str:
    """Raises NoChromium."""
    for name in _NAMES:
        if found := shutil.which(name):
            return found
    raise NoChromium(f"no browser for these tests: none of {', '.join(_NAMES)} is on PATH")


@asynccontextmanager
async def chromium(path: str) -> AsyncIterator[Browser]:
    """Without a sandbox, which neither a container nor root can give it: it sees our pages only."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=path, args=_FLAGS, chromium_sandbox=False
        )
        try:
            yield browser
        finally:
            await browser.close()


class Window:
    """Tabs of as many people: each has storage of its own.

    What a page reports as an error, a violation of its content security policy included, is kept in
    `errors`, but for what matches one of `expected`.
    """

    def __init__(self, browser: Browser) -> None:
        self.expected = [r"/favicon\.ico"]  # browsers ask for it without being asked
        self.errors: list[str] = []
        self._browser = browser
        self._contexts: list[BrowserContext] = []

    async def open(
        self, url: str, *, width: int = DESK, scheme: Scheme = "light", height: int = 900
    ) -> Page:
        """A tab of somebody else, loaded."""
        page = await self.blank(width=width, scheme=scheme, height=height)
        await page.goto(url)
        return page

    async def blank(
        self, *, width: int = DESK, scheme: Scheme = "light", height: int = 900
    ) -> Page:
        context = await self._browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme
        )
        self._contexts.append(context)
        context.set_default_timeout(DEADLINE * 1000)
        context.on("console", self._said)
        context.on("weberror", lambda error: self._note(str(error.error)))
        return await context.new_page()

    def _said(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self._note(f"{message.text} ({message.location.get('url', '')})")

    def _note(self, error: str) -> None:
        if not any(re.search(pattern, error) for pattern in self.expected):
            self.errors.append(error)

    async def close(self) -> None:
        """Close what is open. A server is stopped after that, or pages would tell of its end."""
        while self._contexts:
            await self._contexts.pop().close()


class Site(Protocol):
    """The fixture `site`: serves an HTML file of one's own and the client beside it."""

    def __call__(self, name: str, html: str) -> str: ...
