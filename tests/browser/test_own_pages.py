"""Pages of one's own, on another port: those the documents show, and one with tokens."""

import asyncio
import os
import re
import shutil
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.browser.chromium import CUT_OFF, Site, Window
from tests.browser.conftest import Place
from tests.peer import DEADLINE, until
from tests.server_process import ServeProcess
from tests.tokens import SECRET, token

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROOT = Path(__file__).parents[2]
WRITTEN = "127.0.0.1:8000"  # where the server is in the documents


def shown(document: str) -> str:
    """The one HTML file in a document."""
    page = (ROOT / document).read_text(encoding="utf-8")
    (html,) = re.findall(r"^ *```html\n(.*?)^ *```$", page, re.MULTILINE | re.DOTALL)
    return str(html)


async def say(page: Page, text: str) -> None:
    await page.fill("#text", text)
    await page.press("#text", "Enter")


@pytest.mark.parametrize("document", ["README.md", "clients/js/README.md"])
async def test_the_page_in_the_document_chats_and_loses_nothing(
    window: Window, place: Place, site: Site, document: str
) -> None:
    window.expected.append(CUT_OFF)
    html = shown(document)
    assert WRITTEN in html
    cut_off = site("cut.html", html.replace(WRITTEN, f"127.0.0.1:{place.proxy.port}"))
    ann = await window.open(cut_off)
    bob = await window.open(site("chat.html", html.replace(WRITTEN, place.server.url[7:])))
    await say(ann, "one")
    await expect(bob.locator("li")).to_contain_text(["one"])

    place.cut()
    await expect(ann.locator("#state")).to_contain_text("offline")
    await say(bob, "two")
    await expect(bob.locator("li")).to_contain_text(["one", "two"])
    await say(ann, "three")
    await place.proxy.listen()
    await ann.evaluate("dispatchEvent(new Event('online'))")

    for page in (ann, bob):
        await expect(page.locator("li")).to_contain_text(["one", "two", "three"])
        await expect(page.locator("li")).to_have_count(3)  # none twice


async def test_the_page_that_the_first_page_shows(
    window: Window, standing: Place, site: Site
) -> None:
    page = await window.open(f"{standing.url}/")
    html = await page.locator("#first-page").text_content()
    assert html is not None
    assert f"127.0.0.1:{standing.proxy.port}" in html, "it names the server it came from"
    ann = await window.open(site("first.html", html))
    bob = await window.open(site("first.html", html))

    await say(ann, "from a page of my own")

    await expect(bob.locator("li", has_text="from a page of my own")).to_be_visible()


TUTORIAL = """<!doctype html>
<html lang="en"><title>Chat</title>
<input id="text" aria-label="Message"><p id="state"></p><ul id="log"></ul>
<script type="module">
  import { ChatClient } from "./hubbub.js";
  const chat = new ChatClient("ws://127.0.0.1:8000/ws/rooms/tutorial/" + location.hash.slice(1));
  chat.onState = (event) => (state.textContent = event.state);
  chat.onMessage = ({ type, from, text }) => {
    if (type !== "message") return;
    const line = document.createElement("li");
    line.textContent = `${from}: ${text}`;
    log.append(line);
  };
  text.onchange = () => chat.send(text.value);
</script>
"""


async def test_the_chat_client_of_the_tutorials_comes_back(
    window: Window, place: Place, site: Site
) -> None:
    window.expected.append(CUT_OFF)
    url = site("tutorial.html", TUTORIAL.replace(WRITTEN, f"127.0.0.1:{place.proxy.port}"))
    ann, bob = await window.open(f"{url}#ann"), await window.open(f"{url}#bob")
    for page in (ann, bob):
        await expect(page.locator("#state")).to_have_text("connected")
    await say(ann, "hello")
    await expect(bob.locator("li")).to_have_text(["ann: hello"])

    place.cut()
    await expect(ann.locator("#state")).to_have_text("offline")
    await expect(bob.locator("#state")).to_have_text("offline")
    await place.proxy.listen()
    for page in (ann, bob):
        await page.evaluate("dispatchEvent(new Event('online'))")
        await expect(page.locator("#state")).to_have_text("connected")
    await say(bob, "back")
    await expect(ann.locator("li")).to_have_text(["ann: hello", "bob: back"])


WITH_TOKENS = """<!doctype html>
<html lang="en"><title>Chat</title>
<input id="text" aria-label="Message"><p id="state"></p><ul id="log"></ul>
<script type="module">
  import { Hubbub } from "./hubbub.js";
  const hub = new Hubbub("ws://127.0.0.1:8000", { getToken: () => mintToken() });
  const room = hub.join("chat:tea");
  room.on("message", ({ seq, from, data }) => {
    const line = document.createElement("li");
    line.textContent = `${seq} ${from}: ${data.text}`;
    log.append(line);
  });
  window.states = [];
  hub.on("state", (event) => states.push((state.textContent = event.state)));
  text.onchange = () => room.publish({ text: text.value });
</script>
"""
LIFE = 3.0  # seconds


async def test_a_page_outlives_its_tokens(
    window: Window, serve_process: ServeProcess, site: Site
) -> None:
    url = site("tokens.html", "")
    server = await serve_process(
        HUBBUB_AUTH__MODE="jwt",
        HUBBUB_AUTH__HMAC_SECRET=SECRET,
        HUBBUB_ORIGINS=f'["{url.removesuffix("/tokens.html")}"]',
    )
    site("tokens.html", WITH_TOKENS.replace(WRITTEN, f"127.0.0.1:{server.port}"))
    minted: list[str] = []

    def mint() -> str:
        minted.append(token("ann", LIFE))
        return minted[-1]

    page = await window.blank()
    await page.expose_function("mintToken", mint)
    await page.goto(url)
    await expect(page.locator("#state")).to_have_text("connected")
    for count in (1, 2, 3):
        await until(lambda: len(minted) > count)  # noqa: B023  (called before the next turn)
        await say(page, f"after {count}")
        await expect(page.locator("li")).to_have_count(count)

    await expect(page.locator("li")).to_have_text([f"{n} ann: after {n}" for n in (1, 2, 3)])
    assert await page.evaluate("states") == ["connecting", "connected"]


async def test_the_backend_that_signs_tokens(
    window: Window, serve_process: ServeProcess, tmp_path: Path
) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(
        r"^```python\n(import os, time\n.*?)^```$", readme, re.MULTILINE | re.DOTALL
    )
    (lines,) = re.findall(
        r"^```js\n(import .*?getToken }\);\n)```$", readme, re.MULTILINE | re.DOTALL
    )
    folder = tmp_path / "site"
    folder.mkdir()
    shutil.copy(ROOT / "clients/js/hubbub.js", folder)
    (tmp_path / "backend.py").write_text(code, encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "uvicorn", "backend:app", "--port", "0"),
        cwd=tmp_path,
        env={**os.environ, "HUBBUB_AUTH__HMAC_SECRET": SECRET},
        stdout=DEVNULL,
        stderr=PIPE,
    )
    try:
        url = await address_of(process)
        server = await serve_process(
            HUBBUB_AUTH__MODE="jwt", HUBBUB_AUTH__HMAC_SECRET=SECRET, HUBBUB_ORIGINS=url
        )
        usual = re.compile(r"^  import .*?\n  const hub = .*?\n", re.MULTILINE)
        html = usual.sub(lambda _: lines, shown("README.md")).replace(WRITTEN, server.url[7:])
        (folder / "index.html").write_text(html, encoding="utf-8")
        tabs = [await window.open(url), await window.open(url)]
        for page in tabs:
            await expect(page.locator("#state")).to_have_text("connected")
        await say(tabs[0], "with a token")
        await expect(tabs[1].locator("li")).to_have_text(["ann: with a token"])
    finally:
        await window.close()
        process.terminate()
        await process.wait()


async def address_of(process: Process) -> str:
    assert process.stderr is not None
    async with asyncio.timeout(DEADLINE):
        async for line in process.stderr:
            if found := re.search(rb"running on (http://\S+)", line):
                return found[1].decode()
    raise AssertionError("the backend does not run")
