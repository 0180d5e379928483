"""What holds for all pages: no errors, for everybody to use, on a phone and a desk, and still."""

import httpx
import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, expect

from entrypoints.http.page import PAGES, START
from tests.browser.chromium import DESK, PHONE, Scheme, Window
from tests.browser.conftest import Place

pytestmark = pytest.mark.asyncio(loop_scope="session")

each_page = pytest.mark.parametrize("path", [page.path for page in (START, *PAGES)])
each_width = pytest.mark.parametrize("width", [PHONE, DESK])

_WATCH_SHIFTS = """
window.shifts = [];
new PerformanceObserver((list) => {
  for (const shift of list.getEntries()) if (!shift.hadRecentInput) shifts.push(shift.value);
}).observe({ type: "layout-shift", buffered: true });
"""


async def settled(page: Page) -> None:
    """It is connected if it connects, and has drawn what came by then."""
    if await page.locator("#state").is_visible():
        await expect(page.locator("#state")).to_have_text("Connected")
    await page.evaluate(
        "new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))"
    )


async def some_messages(place: Place) -> None:
    """What a page shows when it is not new any more: short, long, and without a place to break."""
    texts = ["tea?", "a long answer " * 20, "unbroken" * 40]
    async with httpx.AsyncClient(base_url=place.server.url, trust_env=False) as backend:
        for text in texts:
            answer = await backend.post("/v1/rooms/lobby/messages", json={"data": {"text": text}})
            answer.raise_for_status()


@each_page
@each_width
async def test_axe_finds_nothing_in_light_and_in_dark(
    window: Window, standing: Place, path: str, width: int
) -> None:
    await some_messages(standing)
    page = await window.open(f"{standing.url}/{path}", width=width)
    await settled(page)

    schemes: tuple[Scheme, ...] = ("light", "dark")
    for scheme in schemes:
        await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        found = await Axe().run(page)
        assert found.violations_count == 0, f"{scheme}: {found.generate_report()}"


@each_page
@each_width
async def test_nothing_moves_while_a_page_loads_or_stands_out_of_it(
    window: Window, standing: Place, path: str, width: int
) -> None:
    await some_messages(standing)
    page = await window.blank(width=width)
    await page.add_init_script(_WATCH_SHIFTS)
    await page.goto(f"{standing.url}/{path}")
    await settled(page)

    shift = await page.evaluate("shifts.reduce((sum, shift) => sum + shift, 0)")
    assert shift < 0.1
    assert await page.evaluate("scrollTo(1000, 0), scrollX") == 0
