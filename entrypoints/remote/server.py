"""A running hubbub as commands see it: its HTTP API, and what its refusals mean to people."""

import re
import ssl
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from domain.errors import BadName
from domain.identifiers import RoomId, UserId, room_id, user_id
from entrypoints.bind import is_loopback
from entrypoints.http.api.shapes import Error, Refused
from entrypoints.remote.lines import safe
from entrypoints.remote.problems import Exit, Problem

PATIENCE = 15.0  # seconds for an answer; a server takes ten at most
_SOON = 1.0  # seconds until a try that may succeed, where nobody says when
_NOT_THERE_NOW = (502, 503, 504)  # what a proxy answers for a server that is away
CREDENTIALS = "set HUBBUB_API_KEY or HUBBUB_TOKEN"
_HOST = re.compile(r"[\w.:-]+")
_refused = msgspec.json.Decoder(Refused).decode

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Target:
    """Which server, and what to show it."""

    url: str
    credential: str | None = field(default=None, repr=False)

    def options(self) -> dict[str, Any]:
        """Arguments for a client of httpx, of either kind."""
        url = httpx.URL(self.url)
        headers = {"User-Agent": "hubbub"}
        if self.credential is not None:
            headers["Authorization"] = f"Bearer {self.credential}"
        # Without TLS there is nothing to verify, and reading all certificates takes its time.
        plain = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        verify = httpx.create_ssl_context() if url.scheme == "https" else plain
        return {
            "base_url": url,
            "headers": headers,
            "timeout": PATIENCE,
            "trust_env": not is_loopback(url.host),  # no proxy leads to this machine
            "verify": verify,
        }


def read_target(url: str, key: str | None, token: str | None) -> Target:
    """Raises Problem."""
    read = read_url("--url", url)
    if read.userinfo:
        raise Problem(f"no password belongs in --url: {CREDENTIALS}", Exit.USAGE)
    if read.query or read.fragment:
        raise Problem("--url is where the server is, without anything behind `?`", Exit.USAGE)
    credential = token or key
    if credential is not None and not _fits_a_header(credential):
        raise Problem("the key or token has characters that no key or token has", Exit.USAGE)
    return Target(str(read).rstrip("/"), credential)


def read_url(option: str, text: str) -> httpx.URL:
    """Raises Problem for what is no address of HTTP."""
    try:
        read = httpx.URL(text)
    except httpx.InvalidURL:
        read = httpx.URL("")
    named = read.scheme in ("http", "https") and _HOST.fullmatch(read.host)
    if not named or not 0 < (read.port or 80) < 65_536:
        text = f"{option} {safe(text)} is no address: write it like http://127.0.0.1:8000"
        raise Problem(text, Exit.USAGE)
    return read


def _fits_a_header(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text


def room_named(name: str) -> RoomId:
    """Raises Problem."""
    try:
        return room_id(name)
    except BadName as error:
        raise Problem(f"{error.message}, not {safe(name)!r}", Exit.BAD_NAME) from None


def user_named(name: str) -> UserId:
    """Raises Problem."""
    try:
        return user_id(name)
    except BadName as error:
        raise Problem(f"{error.message}, not {safe(name)!r}", Exit.BAD_NAME) from None


def path(*parts: str) -> str:
    """A path under `/v1`."""
    return "/v1/" + "/".join(map(_part, parts))


def _part(name: str) -> str:
    # Names of dots alone would be taken for folders.
    return name.replace(".", "%2E") if not name.strip(".") else quote(name, safe="@:~")


class Server:
    """Asks and waits for the answer. Use it as a context."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._client = httpx.Client(**target.options())

    def __enter__(self) -> "Server":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    def ask(self, method: str, path: str, shape: type[T], **options: Any) -> T:
        """The answer, which must have this shape. `options` are those of httpx. Raises Problem."""
        try:
            response = self._client.request(method, path, **options)
        except httpx.HTTPError as error:
            raise unreached(error, self.target) from None
        return answered(response, shape, self.target)

    def text(self) -> str:
        """What there is to read at the address itself. Raises Problem."""
        try:
            response = self._client.get(self.target.url)
        except httpx.HTTPError as error:
            raise unreached(error, self.target) from None
        if not response.is_success:
            raise refusal(response, self.target)
        return response.text


def answered(response: httpx.Response, shape: type[T], target: Target) -> T:
    """The body of a good answer. Raises Problem for any other."""
    if not response.is_success:
        raise refusal(response, target)
    try:
        return msgspec.json.decode(response.content, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise stranger(target) from None


def stranger(target: Target) -> Problem:
    return Problem(f"what answers at {target.url} is no hubbub: check --url", Exit.STRANGER)


def unreached(error: httpx.HTTPError, target: Target) -> Problem:
    """A request that got no answer."""
    match error:
        case httpx.ConnectTimeout() | httpx.ReadTimeout() | httpx.WriteTimeout():
            text = f"{target.url} does not answer in time"
        case httpx.ConnectError() if "CERTIFICATE_VERIFY_FAILED" in str(error):
            text = f"{target.url} has a certificate that is not trusted here: name the file of its "
            text += "authority in SSL_CERT_FILE"
        case httpx.RemoteProtocolError() if "disconnected" not in str(error):
            return stranger(target)
        case httpx.RemoteProtocolError() | httpx.ReadError() | httpx.WriteError():
            text = f"{target.url} closed the connection without an answer: is it http or https?"
        case _:
            text = f"{target.url} cannot be reached ({error}): is the server running? Name another "
            text += "one with --url or HUBBUB_URL"
    return Problem(text, Exit.UNREACHABLE, retry=_SOON)


def refusal(response: httpx.Response, target: Target) -> Problem:
    """What an answer that is no good one means."""
    try:
        error = _refused(response.content).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        if response.status_code in _NOT_THERE_NOW:
            text = f"{target.url} answers {response.status_code}: the server behind it is away"
            return Problem(text, Exit.UNREACHABLE, retry=_SOON)
        return stranger(target)
    return _meaning(error, target)


def _meaning(error: Error, target: Target) -> Problem:
    said = safe(error.message)
    match error.code:
        case "token_missing":
            return Problem(f"{target.url} asks for a key: {CREDENTIALS}", Exit.REFUSED)
        case "token_invalid" | "token_expired" | "token_revoked":
            text = f"{target.url} refuses this key or token ({error.code}: {said})"
            return Problem(f"{text}: {CREDENTIALS}", Exit.REFUSED)
        case "not_granted" | "forbidden":
            return Problem(f"not allowed with this key or token: {said}", Exit.REFUSED)
        case "bad_name":
            return Problem(said, Exit.BAD_NAME)
        case "not_found" | "method_not_allowed":
            text = f"there is no such thing at {target.url}: check the path in --url, and whether "
            return Problem(text + "the hubbub there is as new as this one", Exit.STRANGER)
    wait = None
    if error.retry:
        wait = _SOON if error.retry_after is msgspec.UNSET else error.retry_after
    return Problem(f"{said} ({safe(error.code)})", Exit.FAILED, wait)
