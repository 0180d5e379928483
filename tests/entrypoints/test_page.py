"""The pages: what is served, how it is guarded, and what they are made of."""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from entrypoints.asgi import create_app
from entrypoints.http.page import PAGES, START, Page, compose, page_router
from entrypoints.settings import AuthSettings, Settings

ROOT = Path(__file__).parents[2]
WEB = ROOT / "entrypoints/web"
CLIENT = ROOT / "clients/js/hubbub.js"
EVERY = (START, *PAGES)
SCRIPTS = sorted(path for path in WEB.glob("*.js") if path.name != CLIENT.name)
TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
FILES = {
    "/hubbub.js": CLIENT,
    **{f"/page/{path.name}": path for path in (*SCRIPTS, *WEB.glob("*.css"), *WEB.glob("*.svg"))},
}
PATHS = [*(f"/{page.path}" for page in EVERY), *FILES]
POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "connect-src": "'self' ws: wss:",
    "img-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
}

needs_node = pytest.mark.skipif(
    shutil.which("node") is None, reason="node is not on PATH, so JavaScript is not run"
)
each_page = pytest.mark.parametrize("page", EVERY, ids=lambda page: str(page.name))
each_script = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.name))


def a_client(app: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=app)
    return httpx.AsyncClient(transport=transport, base_url="http://localhost:8000")


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI()
    app.include_router(page_router())
    return app


@pytest.fixture
def client(app: FastAPI) -> httpx.AsyncClient:
    return a_client(app)


class Parsed(HTMLParser):
    """Collects what the browser would run, style, fetch, number and name."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.inline: list[str] = []
        self.assets: list[str] = []
        self.links: list[str] = []
        self.current: list[str] = []
        self.ids: list[str] = []
        self.labelled: list[str] = []
        self.inputs: list[str] = []
        self.headings = 0
        self.code: list[str] = []
        self._in_code = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        handlers = [name for name in attributes if name.startswith("on") or name == "style"]
        if handlers or tag == "style" or (tag == "script" and "src" not in attributes):
            self.inline.append(f"{tag} {handlers}")
        source = attributes.get("src") or (attributes.get("href") if tag == "link" else None)
        self.assets += [source] if source else []
        self.links += [str(attributes["href"])] if tag == "a" else []
        self.current += [str(attributes["href"])] if "aria-current" in attributes else []
        self.ids += [str(attributes["id"])] if "id" in attributes else []
        self.labelled += [str(attributes["for"])] if tag == "label" else []
        if tag in {"input", "textarea", "select"} and "aria-labelledby" not in attributes:
            self.inputs.append(str(attributes.get("id")))
        self.headings += tag == "h1"
        self._in_code = tag == "code" and "id" in attributes
        self.code += [""] if self._in_code else []

    def handle_endtag(self, tag: str) -> None:
        self._in_code = self._in_code and tag != "code"

    def handle_data(self, data: str) -> None:
        if self._in_code:
            self.code[-1] += data


def whole(page: Page) -> str:
    layout = (WEB / "layout.html").read_text("utf-8")
    return compose(layout, page, (WEB / f"{page.name}.html").read_text("utf-8"))


@pytest.mark.parametrize("path", PATHS)
async def test_serves_each_file_with_type_and_guards(client: httpx.AsyncClient, path: str) -> None:
    response = await client.get(path)

    assert response.status_code == 200
    if path in FILES:
        assert response.content == FILES[path].read_bytes()
        kind = TYPES[FILES[path].suffix]
    else:
        assert response.text == whole(next(page for page in EVERY if f"/{page.path}" == path))
        kind = "text/html"
    assert response.headers["content-type"].split(";")[0] == kind
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert response.headers["cache-control"] == "no-cache"
    directives = response.headers["content-security-policy"].split("; ")
    assert directives == [f"{name} {value}" for name, value in POLICY.items()]


@pytest.mark.parametrize("path", PATHS)
async def test_head_has_the_headers_of_get_and_no_body(
    client: httpx.AsyncClient, path: str
) -> None:
    got, head = await client.get(path), await client.head(path)

    assert head.status_code == 200
    assert head.content == b""
    assert head.headers == got.headers


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', "*"])
@pytest.mark.parametrize("path", ["/", "/hubbub.js"])
async def test_a_known_version_is_not_sent_again(
    client: httpx.AsyncClient, path: str, form: str
) -> None:
    etag = (await client.get(path)).headers["etag"]

    response = await client.get(path, headers={"If-None-Match": form.format(etag)})

    assert response.status_code == 304
    assert response.content == b""
    assert response.headers["etag"] == etag


async def test_another_version_is_sent(client: httpx.AsyncClient) -> None:
    response = await client.get("/", headers={"If-None-Match": '"other"'})

    assert response.status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/page", "/page/", "/page/none.js", "/page/chat.html", "/layout.html", "/page/..%2fpage.py"],
)
async def test_nothing_else_is_served(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 404


async def test_the_pages_are_read_only(client: httpx.AsyncClient) -> None:
    assert (await client.post("/")).status_code == 405


def test_the_pages_are_no_part_of_the_api_document(app: FastAPI) -> None:
    assert app.openapi()["paths"] == {}


SECRET = "a secret of the tests, long enough"


@pytest.mark.parametrize(("pages", "status"), [(None, 404), (True, 200)])
@pytest.mark.parametrize("path", ["/", "/chat", "/hubbub.js", "/page/style.css"])
async def test_with_tokens_there_are_pages_only_when_asked_for(
    pages: bool | None, status: int, path: str
) -> None:
    auth = AuthSettings.model_validate({"mode": "jwt", "hmac_secret": SECRET})
    client = a_client(create_app(Settings(auth=auth, pages=pages)))

    assert (await client.get(path)).status_code == status


async def test_pages_lead_to_no_documents_that_are_on_a_port_of_their_own() -> None:
    app = FastAPI()
    app.include_router(page_router(documents=False))
    page = (await a_client(app).get("/chat")).text
    assert 'href="hubbub.js"' in page
    assert 'href="docs"' not in page
    assert 'href="metrics"' not in page


async def test_the_client_can_be_imported_by_pages_of_this_machine_and_no_others() -> None:
    client = a_client(create_app(Settings()))

    near = await client.get("/hubbub.js", headers={"Origin": "http://localhost:8080"})
    far = await client.get("/hubbub.js", headers={"Origin": "https://evil.example"})

    assert near.headers["access-control-allow-origin"] == "http://localhost:8080"
    assert far.status_code == 403


@each_page
def test_a_page_runs_and_styles_nothing_inline(page: Page) -> None:
    assert Parsed(whole(page)).inline == []


@each_page
async def test_everything_a_page_refers_to_is_served_here(page: Page) -> None:
    app, parsed = create_app(Settings()), Parsed(whole(page))
    inner = {link for link in parsed.links if not link.startswith(("#", "?"))}
    assert {f"page/{page.name}.js", f"page/{page.name}.css", "page/style.css"} < {*parsed.assets}

    for reference in {*parsed.assets, *inner}:
        assert (await a_client(app).get(f"/{reference}")).status_code == 200, reference


@each_page
def test_a_page_leads_to_all_others_and_says_which_it_is(page: Page) -> None:
    parsed = Parsed(whole(page))

    assert {other.path for other in PAGES} <= set(parsed.links)
    assert parsed.current[:1] == ([] if page is START else [page.path])
    assert "{{" not in re.sub(r"<pre.*?</pre>", "", whole(page), flags=re.DOTALL)


@each_page
def test_a_page_has_one_heading_unique_ids_and_a_label_for_every_input(page: Page) -> None:
    parsed = Parsed(whole(page))

    assert parsed.headings == 1
    assert len(parsed.ids) == len(set(parsed.ids))
    assert parsed.inputs
    assert set(parsed.inputs) <= set(parsed.labelled)


def loaded(script: Path) -> set[Path]:
    """A script and all it imports."""
    found, new = set[Path](), {script}
    while new:
        found |= new
        names = {
            name
            for path in new
            for name in re.findall(r'from "\./([\w-]+\.js)"', path.read_text("utf-8"))
        }
        new = {WEB / name for name in names} - found
    return found


@each_page
def test_every_element_a_script_asks_for_is_in_its_page(page: Page) -> None:
    source = "".join(path.read_text("utf-8") for path in loaded(WEB / f"{page.name}.js"))
    asked = set(re.findall(r'\bat\("([\w-]+)"\)', source))

    assert asked
    assert asked <= set(Parsed(whole(page)).ids)


def test_every_script_is_of_some_page() -> None:
    used = {path for page in EVERY for path in loaded(WEB / f"{page.name}.js")}

    assert used == set(SCRIPTS)


@each_script
def test_text_of_others_is_never_read_as_html_or_code(script: Path) -> None:
    sinks = (
        r"innerHTML|outerHTML|insertAdjacentHTML|setHTML|document\.write|DOMParser|srcdoc|"
        r"createContextualFragment|\beval\b|new Function|\.style\.cssText|setTimeout\([\"'`]"
    )
    assert not re.search(sinks, script.read_text("utf-8"))


@pytest.mark.parametrize(
    "path", sorted({*WEB.iterdir()} - {WEB / CLIENT.name}), ids=lambda path: str(path.name)
)
def test_nothing_of_other_hosts_is_referred_to(path: Path) -> None:
    addresses = set(re.findall(r"(?:https?:|wss?:)?//[\w.-]+\.[\w.-]+", path.read_text("utf-8")))

    assert addresses <= {"http://127.0.0.1", "http://www.w3.org"}


def checked(source: str) -> str:
    done = subprocess.run(
        ["node", "--input-type=module", "--check"],
        input=source,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.stderr


@needs_node
@each_script
def test_a_script_is_valid(script: Path) -> None:
    assert checked(script.read_text("utf-8")) == ""


@needs_node
@each_page
def test_the_code_that_a_page_shows_is_valid_and_uses_the_client(page: Page) -> None:
    (code,) = Parsed(whole(page)).code
    (script,) = re.findall(r"<script type=.module.>(.*)</script>", code, re.DOTALL) or [code]

    assert 'hubbub.js"' in script or page.name == "explorer"
    assert checked(script) == ""
