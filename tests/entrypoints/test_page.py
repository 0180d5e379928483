"""The first page: what is served, how it is guarded, and that its client keeps its promises."""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from importlib import resources

import httpx
import pytest
from fastapi import FastAPI

from entrypoints.http.page import page_router

WEB = resources.files("entrypoints") / "web"
SCRIPTS = ("page.js", "rooms.js")
SERVED = {
    "/": "text/html; charset=utf-8",
    "/page/page.js": "text/javascript; charset=utf-8",
    "/page/rooms.js": "text/javascript; charset=utf-8",
    "/page/style.css": "text/css; charset=utf-8",
}
POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "connect-src": "'self' ws: wss:",
    "img-src": "'self' data:",
    "base-uri": "'none'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
}

needs_node = pytest.mark.skipif(
    shutil.which("node") is None, reason="node is not on PATH, so JavaScript is not run"
)


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI()
    app.include_router(page_router())
    return app


@pytest.fixture
def client(app: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=app)
    return httpx.AsyncClient(transport=transport, base_url="http://hubbub.test")


class Page(HTMLParser):
    """Collects what the browser would run, style, fetch, and number."""

    def __init__(self) -> None:
        super().__init__()
        self.inline: list[str] = []
        self.assets: list[str] = []
        self.ids: list[str] = []
        self.labelled: list[str] = []
        self.inputs: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        handlers = [name for name in attributes if name.startswith("on") or name == "style"]
        if handlers or tag == "style" or (tag == "script" and "src" not in attributes):
            self.inline.append(f"{tag} {handlers}")
        source = attributes.get("src") or (attributes.get("href") if tag == "link" else None)
        self.assets += [source] if source else []
        self.ids += [str(attributes["id"])] if "id" in attributes else []
        self.labelled += [str(attributes["for"])] if tag == "label" else []
        self.inputs += [str(attributes.get("id"))] if tag == "input" else []


@pytest.fixture
def page() -> Page:
    page = Page()
    page.feed((WEB / "index.html").read_text("utf-8"))
    return page


@pytest.mark.parametrize(("path", "media_type"), SERVED.items())
async def test_serves_each_file_with_type_and_guards(
    client: httpx.AsyncClient, path: str, media_type: str
) -> None:
    response = await client.get(path)

    name = path.rsplit("/", 1)[-1] or "index.html"
    assert response.status_code == 200
    assert response.content == (WEB / name).read_bytes()
    assert response.headers["content-type"] == media_type
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert response.headers["cache-control"] == "no-cache"
    directives = response.headers["content-security-policy"].split("; ")
    assert directives == [f"{name} {value}" for name, value in POLICY.items()]


@pytest.mark.parametrize("path", SERVED)
async def test_head_has_the_headers_of_get_and_no_body(
    client: httpx.AsyncClient, path: str
) -> None:
    got, head = await client.get(path), await client.head(path)

    assert head.status_code == 200
    assert head.content == b""
    assert head.headers == got.headers


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', "*"])
async def test_a_known_version_is_not_sent_again(client: httpx.AsyncClient, form: str) -> None:
    etag = (await client.get("/")).headers["etag"]

    response = await client.get("/", headers={"If-None-Match": form.format(etag)})

    assert response.status_code == 304
    assert response.content == b""
    assert response.headers["etag"] == etag


async def test_another_version_is_sent(client: httpx.AsyncClient) -> None:
    response = await client.get("/", headers={"If-None-Match": '"other"'})

    assert response.status_code == 200


@pytest.mark.parametrize(
    "path", ["/page", "/page/", "/page/none.js", "/page/index.html", "/page/..%2fpage.py"]
)
async def test_nothing_else_is_served(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 404


async def test_the_page_is_read_only(client: httpx.AsyncClient) -> None:
    assert (await client.post("/")).status_code == 405


def test_the_page_is_no_part_of_the_api_document(app: FastAPI) -> None:
    assert app.openapi()["paths"] == {}


def test_the_page_runs_and_styles_nothing_inline(page: Page) -> None:
    assert page.inline == []


async def test_everything_the_page_refers_to_is_served(
    client: httpx.AsyncClient, page: Page
) -> None:
    fetched = {asset for asset in page.assets if not asset.startswith("data:")}

    assert fetched == {"page/page.js", "page/rooms.js", "page/style.css"}
    assert [(await client.get(f"/{asset}")).status_code for asset in fetched] == [200] * 3


def test_ids_are_unique_and_every_input_has_a_label(page: Page) -> None:
    assert len(page.ids) == len(set(page.ids))
    assert page.inputs
    assert set(page.inputs) <= set(page.labelled)


def test_every_element_the_script_asks_for_is_in_the_page(page: Page) -> None:
    asked = set(re.findall(r'\bat\("([\w-]+)"\)', (WEB / "page.js").read_text("utf-8")))

    assert asked
    assert asked <= set(page.ids)


def test_text_of_others_is_never_read_as_html() -> None:
    source = "".join((WEB / name).read_text("utf-8") for name in SCRIPTS)

    assert "textContent" in source
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", source)


def run_node(*arguments: str, script: str) -> str:
    done = subprocess.run(
        ["node", "--input-type=module", *arguments],
        input=script,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_node
@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_valid(name: str) -> None:
    assert run_node("--check", script=(WEB / name).read_text("utf-8")) == ""


# A socket that the script below plays the server of.
FAKE_SOCKET = """
import assert from "node:assert/strict";
const sockets = [];
globalThis.WebSocket = class {
  sent = [];
  constructor(url) { this.url = new URL(url); sockets.push(this); }
  send(text) { this.sent.push(JSON.parse(text)); }
  close(code) { this.closed = code; }
  hear(frame) { this.onmessage({ data: JSON.stringify(frame) }); }
  welcome(seq, outcome, messages = []) {
    this.hear({ type: "connected", user_id: "guest-7", ping_interval: 25 });
    const position = { log: "e.t", seq };
    this.hear({ type: "joined", room: "r", position, recovery: { outcome }, messages, more: false,
      members: [{ user: "guest-7" }], count: 1, version: 4 });
  }
};
const client = new RoomClient("ws://hubbub.test/v1/ws", "r", { history: 5 });
const seen = [];
const states = [];
client.addEventListener("message", ({ detail: { seq, replayed = false } }) =>
  seen.push([seq, replayed]));
client.addEventListener("state", ({ detail }) => states.push(detail.state));
client.connect();
"""


def run_client(script: str) -> None:
    run_node(script=(WEB / "rooms.js").read_text("utf-8") + FAKE_SOCKET + script)


@needs_node
def test_client_resumes_and_sends_an_unanswered_message_again_with_its_key() -> None:
    run_client("""
        sockets[0].welcome(7, "none");
        const join = { type: "join", id: "join", room: "r", history: 5 };
        assert.deepEqual(sockets[0].sent, [join]);
        sockets[0].hear({ type: "message", room: "r", seq: 8, data: "a" });
        const receipt = client.publish("mine");
        client.connect();
        assert.equal(sockets[1].url.searchParams.get("user"), "guest-7");
        sockets[1].welcome(9, "ok", [{ type: "message", room: "r", seq: 9, data: "mine" }]);
        assert.deepEqual(sockets[1].sent[0], { ...join, position: { log: "e.t", seq: 8 } });
        assert.deepEqual(sockets[1].sent[1], sockets[0].sent[1]);
        const { id, key } = sockets[1].sent[1];
        assert.match(key, /^[0-9a-f]{32}$/);
        sockets[1].hear({ type: "ack", id, room: "r", seq: 9, log: "e.t", duplicate: true });
        assert.equal((await receipt).seq, 9);
        client.connect();
        sockets[2].welcome(9, "ok");
        assert.deepEqual(sockets[2].sent, [{ ...join, position: { log: "e.t", seq: 9 } }]);
        assert.deepEqual(seen, [[8, false], [9, true]]);
        client.close();
    """)


@needs_node
def test_client_obeys_the_range_of_the_close_code() -> None:
    run_client("""
        const verdicts = { stop: [1000, 1007, 1009, 4000, 4001, 4099], "at once": [4200, 4299],
          backoff: [1001, 1006, 1011, 1012, 4100, 4102, 4199] };
        for (const [answer, codes] of Object.entries(verdicts)) {
          for (const code of codes) assert.equal(verdict(code), answer, code);
        }
        assert.equal(backoff(0, () => 0), 0.5);
        assert.equal(backoff(0, () => 1), 2);
        assert.equal(backoff(50, () => 1), 20);

        sockets[0].welcome(0, "none");
        sockets[0].hear({ type: "disconnect", code: 4001, reason: "token_expired" });
        sockets[0].onclose({ code: 1006, reason: "" });
        assert.equal(states.at(-1), "stopped");
        client.connect();
        sockets[1].welcome(0, "ok");
        sockets[1].onclose({ code: 1012, reason: "" });
        assert.equal(states.at(-1), "waiting");
        client.close();
    """)


@needs_node
def test_client_asks_for_the_members_when_it_missed_a_change() -> None:
    run_client("""
        const lists = [];
        client.addEventListener("presence", ({ detail }) => lists.push(detail.members.join()));
        sockets[0].welcome(0, "none");
        const change = (type, user, version) =>
          sockets[0].hear({ type, room: "r", user, count: 2, version });
        change("join", "guest-7", 4); // in the list already
        change("join", "ann", 5);
        change("leave", "ann", 6);
        change("join", "bea", 8);
        assert.deepEqual(sockets[0].sent.at(-1), { type: "members", id: "members", room: "r" });
        const page = (user, more) => sockets[0].hear({ type: "members", id: "members", room: "r",
          members: [{ user }], count: 2, version: 8, more });
        page("bea", true);
        assert.equal(sockets[0].sent.at(-1).after, "bea");
        page("cleo", false);
        assert.deepEqual(lists, ["guest-7", "ann,guest-7", "guest-7", "bea,cleo"]);
        client.close();
    """)
