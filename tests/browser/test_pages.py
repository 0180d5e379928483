"""The dashboard, the editor, notifications and the explorer, each doing what it is for."""

import asyncio
import re

import pytest
from playwright.async_api import Page, expect

from tests.browser.chromium import CUT_OFF, Window
from tests.browser.conftest import Place

pytestmark = pytest.mark.asyncio(loop_scope="session")

MORE_THAN_ONE = re.compile(r"^([2-9]|\d\d+)(\.\d+)?$")


async def connected(window: Window, url: str) -> Page:
    page = await window.open(url)
    await expect(page.locator("#state")).to_have_text("Connected")
    return page


# Dashboard


async def test_the_dashboard_moves(window: Window, standing: Place) -> None:
    page = await connected(window, f"{standing.url}/dashboard?user=ann")
    await expect(page.locator("#received")).to_have_text(MORE_THAN_ONE)
    await page.click("#noise")

    await expect(page.locator("#chart-delivered .now span")).to_have_text(MORE_THAN_ONE)
    await expect(page.locator("#chart-sessions .curve").first).to_be_attached()
    assert int(await page.inner_text("#drawn")) > 0
    await page.click("#noise")


# Editor


async def editing(window: Window, url: str, user: str, text: str) -> Page:
    page = await connected(window, f"{url}/editor?user={user}&text={text}")
    await expect(page.locator("#text")).to_be_enabled()
    return page


async def point(page: Page, place: int) -> None:
    """Click between two letters."""
    await page.focus("#text")
    await page.evaluate("(place) => text.setSelectionRange(place, place)", place)


async def write(page: Page, text: str) -> None:
    """Where the cursor is, one key after the other."""
    await page.locator("#text").press_sequentially(text, delay=15)


async def saved(page: Page, text: str) -> None:
    await expect(page.locator("#text")).to_have_value(text)
    await expect(page.locator("#standing")).to_contain_text("Saved in the room")


async def converged(*pages: Page) -> str:
    """Wait until all have one text that is saved, and return it."""
    for page in pages:
        await expect(page.locator("#standing")).to_contain_text("Saved in the room")
    first, *others = pages
    versions = [await page.inner_text("#version") for page in pages]
    newest = max(versions, key=int)
    for page in pages:
        await expect(page.locator("#version")).to_have_text(newest)
    text = await first.input_value("#text")
    for page in others:
        await saved(page, text)
    return text


async def test_editors_converge_while_both_write(window: Window, standing: Place) -> None:
    ann = await editing(window, standing.url, "ann", "together")
    bob = await editing(window, standing.url, "bob", "together")
    await write(ann, "0123456789")
    await saved(bob, "0123456789")

    await point(ann, 3)
    await point(bob, 7)
    await asyncio.gather(write(ann, "abcdefghijklm"), write(bob, "NOPQRSTUVWXYZ"))

    text = await converged(ann, bob)
    assert text == "012abcdefghijklm3456NOPQRSTUVWXYZ789"
    await expect(bob.locator("#mirror .caret")).to_have_attribute("data-name", "ann")
    late = await editing(window, standing.url, "cleo", "together")
    await saved(late, text)


async def test_an_editor_that_was_cut_off_keeps_what_was_written(
    window: Window, place: Place
) -> None:
    window.expected.append(CUT_OFF)
    ann = await editing(window, place.url, "ann", "apart")
    bob = await editing(window, place.server.url, "bob", "apart")
    await write(ann, "middle")
    await saved(bob, "middle")

    place.cut()
    await expect(ann.locator("#state")).to_have_text("Offline, coming back")
    await point(ann, 0)
    await write(ann, "begin ")
    await expect(ann.locator("#standing")).to_have_text("Offline, your changes are kept here")
    await point(bob, 6)
    await write(bob, " end")

    await place.proxy.listen()
    await ann.evaluate("dispatchEvent(new Event('online'))")
    await saved(ann, "begin middle end")
    await saved(bob, "begin middle end")


# Notifications


async def test_a_notification_reaches_every_tab_and_is_counted(
    window: Window, standing: Place
) -> None:
    first = await connected(window, f"{standing.url}/notifications?user=ann")
    second = await connected(window, f"{standing.url}/notifications?user=ann")
    bob = await connected(window, f"{standing.url}/notifications?user=bob")
    for page in (first, second):
        await expect(page.locator("#whose")).to_have_text("ann")

    await bob.fill("#send-to", "ann")
    for text in ("lunch?", "<i>now</i>"):
        await bob.fill("#send-text", text)
        await bob.press("#send-text", "Enter")

    for page in (first, second):
        await expect(page.locator("#notes .text")).to_have_text(["<i>now</i>", "lunch?"])
        await expect(page.locator("#badge")).to_have_text("2 new")
        await expect(page).to_have_title("(2) Notifications · hubbub")
    await expect(bob.locator("#notes .text")).to_have_count(0)
    await first.click("#read-all")
    await expect(first.locator("#badge")).to_be_hidden()


async def test_what_came_while_a_tab_slept_is_there_once(window: Window, standing: Place) -> None:
    cleo = await connected(window, f"{standing.url}/notifications?user=cleo")
    dan = await connected(window, f"{standing.url}/notifications?user=dan")
    await expect(cleo.locator("#whose")).to_have_text("cleo")

    await cleo.click("#sleep")
    await expect(cleo.locator("#state")).to_have_text("Offline: cut off")
    await dan.fill("#send-to", "cleo")
    await dan.fill("#send-text", "asleep?")
    await dan.press("#send-text", "Enter")
    await expect(dan.locator("#sent")).to_contain_text("In the room of cleo")
    await cleo.click("#sleep")

    await expect(cleo.locator("#notes")).to_contain_text("1 notification came while you slept.")
    await expect(cleo.locator("#notes .text")).to_have_text(["asleep?"])
    await cleo.reload()
    await expect(cleo.locator("#notes .text")).to_have_text(["asleep?"])


# Explorer


async def test_the_explorer_shows_what_was_sent_and_the_reply(
    window: Window, standing: Place
) -> None:
    page = await window.open(f"{standing.url}/explorer")
    await page.click("#connect")
    await expect(page.locator("#link")).to_have_text("Open")
    await page.fill("#frame", '{"type": "join", "id": 1, "room": "explored"}')
    await page.click("#send")

    await expect(page.locator("#frames .out .what")).to_contain_text('"join"')
    reply = page.locator("#frames .in", has_text='"joined"').filter(has_text='"explored"')
    await expect(reply.locator(".after")).to_contain_text("ms")
    await page.click("#disconnect")
    await expect(page.locator("#link")).to_contain_text("Closed with 1000")


@pytest.mark.parametrize(
    ("door", "frame", "reply"),
    [("/ws", '{"text": "hello"}', '"echo":{"text":"hello"}'), ("/ws/binary", "01 fe", "01 fe")],
)
async def test_the_explorer_enters_by_other_doors(
    window: Window, standing: Place, door: str, frame: str, reply: str
) -> None:
    page = await window.open(f"{standing.url}/explorer")
    await page.select_option("#door", label=door)
    await page.click("#connect")
    await expect(page.locator("#link")).to_have_text("Open")
    await page.fill("#frame", frame)
    await page.click("#send")

    await expect(page.locator("#frames .in .what")).to_contain_text(reply)
