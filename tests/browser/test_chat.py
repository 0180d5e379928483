"""The chat page with people at it, whose connections and servers fail."""

import httpx
import pytest
from playwright.async_api import Page, expect

from tests.browser.chromium import CUT_OFF, Window
from tests.browser.conftest import Place
from tests.server_process import ServeProcess

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def enter(window: Window, url: str, user: str) -> Page:
    page = await window.open(f"{url}/chat?user={user}&room=tea")
    await expect(page.locator("#state")).to_have_text("Connected")
    await expect(page.locator("#here .person", has_text=user)).to_be_visible()
    return page


async def say(page: Page, *texts: str) -> None:
    for text in texts:
        await page.fill("#composer-text", text)
        await page.press("#composer-text", "Enter")


async def reads(page: Page, *texts: str) -> None:
    """The page shows these messages, numbered from 1, and no others."""
    await expect(page.locator("#rows .row[data-seq] .text")).to_have_text(list(texts))
    numbers = [str(number) for number in range(1, len(texts) + 1)]
    await expect(page.locator("#rows .row .seq")).to_have_text(numbers)


async def back_online(place: Place, page: Page) -> None:
    """The network is there again, and the system tells the browser."""
    await place.proxy.listen()
    await page.evaluate("dispatchEvent(new Event('online'))")


async def test_two_people_chat(window: Window, place: Place) -> None:
    ann = await enter(window, place.url, "ann")
    bob = await enter(window, place.url, "bob")
    await expect(ann.locator("#here .person")).to_have_text(["annyou", "bob"])

    await ann.locator("#composer-text").press_sequentially("tea?")
    await expect(bob.locator("#typing")).to_contain_text("ann")
    await ann.press("#composer-text", "Enter")
    await expect(ann.locator("#rows .row .fate")).to_have_text("stored")
    await say(bob, "<b>yes</b>")

    await reads(ann, "tea?", "<b>yes</b>")
    await reads(bob, "tea?", "<b>yes</b>")


async def test_who_was_cut_off_is_told_and_misses_nothing(window: Window, place: Place) -> None:
    window.expected.append(CUT_OFF)
    ann = await enter(window, place.url, "ann")
    bob = await enter(window, place.server.url, "bob")
    await say(ann, "one")
    await reads(bob, "one")

    place.cut()
    await expect(ann.locator("#state")).to_have_text("Offline, coming back")
    await expect(ann.locator("#rows .note").last).to_contain_text("Connection lost after message 1")
    await say(bob, "two", "three")
    await reads(bob, "one", "two", "three")
    await say(ann, "four")
    await expect(ann.locator("#rows .row .fate").last).to_have_text("kept here, sent on return")

    await back_online(place, ann)
    await expect(ann.locator("#state")).to_have_text("Connected")
    await expect(ann.locator("#rows")).to_contain_text("Back: 2 messages missed, none lost.")
    await reads(ann, "one", "two", "three", "four")
    await reads(bob, "one", "two", "three", "four")
    await expect(bob.locator("#rows .note", has_text="ann left")).to_have_count(0)


async def test_a_page_outlives_its_server(
    window: Window, place: Place, serve_process: ServeProcess
) -> None:
    window.expected.append(CUT_OFF)
    ann = await enter(window, place.url, "ann")
    await say(ann, "before")
    await reads(ann, "before")

    await place.server.stop()
    place.cut()
    await expect(ann.locator("#state")).to_have_text("Offline, coming back")
    await say(ann, "meanwhile")

    place.proxy.target = (await serve_process()).port
    await back_online(place, ann)
    await expect(ann.locator("#rows .note", has_text="The room has a new log")).to_be_visible()
    await expect(ann.locator("#rows .row[data-origin=withdrawn] .text")).to_have_text("before")
    await expect(ann.locator("#rows .row[data-seq] .text")).to_have_text(["meanwhile"])
    bob = await enter(window, place.url, "bob")
    await reads(bob, "meanwhile")


async def test_five_hundred_messages_arrive_in_order(window: Window, place: Place) -> None:
    ann = await enter(window, place.url, "ann")

    async with httpx.AsyncClient(base_url=place.server.url, trust_env=False) as backend:
        for first in range(1, 501, 100):
            numbers = list(range(first, first + 100))
            operations = [
                {"op": "publish", "room": "tea", "data": {"text": f"number {number}"}}
                for number in numbers
            ]
            answer = await backend.post("/v1/batch", json={"operations": operations})
            assert [result["seq"] for result in answer.json()["results"]] == numbers

    await expect(ann.locator("#last-seq")).to_have_text("500")
    await reads(ann, *(f"number {n}" for n in range(1, 501)))


async def test_what_a_closed_connection_does_not_take_is_not_lost(
    window: Window, place: Place
) -> None:
    ann = await enter(window, place.url, "ann")
    async with httpx.AsyncClient(base_url=place.server.url, trust_env=False) as backend:
        sent_away = await backend.post("/v1/users/ann/disconnect", json={"reason": "enough"})
        assert sent_away.is_success
    await expect(ann.locator("#cut")).to_have_text("Reconnect now")
    await expect(ann.locator("html[data-link=closed]")).to_have_count(1)

    await say(ann, "still there?")
    await expect(ann.locator("#rows .row[data-origin=refused] .fate")).to_have_text(
        "not sent: the client is closed"
    )
    await expect(ann.locator("#composer-text")).to_have_value("still there?")

    await ann.click("#cut")
    await expect(ann.locator("#state")).to_have_text("Connected")
    await ann.press("#composer-text", "Enter")
    await expect(ann.locator("#rows .row[data-seq] .text")).to_have_text(["still there?"])
    await expect(ann.locator("#composer-text")).to_have_value("")
