"""An issuer that publishes keys at an address of this machine, and misbehaves when told to."""

import asyncio
import gzip
import json
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

Answer = Callable[["KeyServer", asyncio.StreamWriter], Awaitable[None]]

_KINDS: dict[str, Any] = {"RS256": RSAAlgorithm, "ES256": ECAlgorithm, "EdDSA": OKPAlgorithm}


class Issuer:
    """One key and its name, as the issuer has it."""

    def __init__(self, key_id: str | None, algorithm: str = "ES256") -> None:
        self.key_id = key_id
        self.algorithm = algorithm
        self.private: Any = {
            "RS256": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
            "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
            "EdDSA": ed25519.Ed25519PrivateKey.generate,
        }[algorithm]()

    def sign(self, claims: dict[str, Any], **header: object) -> str:
        named = {} if self.key_id is None else {"kid": self.key_id}
        return jwt.encode(claims, self.private, self.algorithm, headers={**named, **header})

    def published(self, **more: object) -> dict[str, Any]:
        """The public key as in a set."""
        kind = _KINDS[self.algorithm]
        fields: dict[str, Any] = kind.to_jwk(self.private.public_key(), as_dict=True)
        fields.pop("key_ops", None)
        named = {} if self.key_id is None else {"kid": self.key_id}
        return {**fields, **named, "use": "sig", "alg": self.algorithm, **more}


class KeyServer:
    """`answer` decides what the next requests get. `targets` are the paths asked for."""

    def __init__(self, *issuers: Issuer) -> None:
        self.keys: list[dict[str, Any]] = [issuer.published() for issuer in issuers]
        self.answer: Answer = publish
        self.heads: list[bytes] = []
        self._server: asyncio.Server
        self._scheme = "http"
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, tls: ssl.SSLContext | None = None, port: int = 0) -> "KeyServer":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, ssl=tls)
        self._scheme = "https" if tls else "http"
        self._port = int(self._server.sockets[0].getsockname()[1])
        return self

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._port}/keys.json"

    @property
    def port(self) -> int:
        return self._port

    @property
    def targets(self) -> list[str]:
        return [head.split(b" ", 2)[1].decode() for head in self.heads]

    def body(self) -> bytes:
        return json.dumps({"keys": self.keys}).encode()

    async def stop(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            await self.answer(self, writer)
            await writer.drain()
        except (OSError, EOFError):
            pass  # the client had enough
        finally:
            self._tasks.discard(task)
            writer.close()


def _head(status: str, *headers: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "connection: close", "", ""]).encode()


def plain(body: bytes, *headers: str, status: str = "200 OK") -> Answer:
    async def answer(server: KeyServer, writer: asyncio.StreamWriter) -> None:
        writer.write(_head(status, f"content-length: {len(body)}", *headers) + body)

    return answer


async def publish(server: KeyServer, writer: asyncio.StreamWriter) -> None:
    await plain(server.body(), "content-type: application/json")(server, writer)


async def silence(server: KeyServer, writer: asyncio.StreamWriter) -> None:
    await asyncio.get_running_loop().create_future()


async def drip(server: KeyServer, writer: asyncio.StreamWriter) -> None:
    """A byte now and then, for ever: no single read takes long."""
    writer.write(_head("200 OK", "content-length: 100000"))
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.01)


async def flood(server: KeyServer, writer: asyncio.StreamWriter) -> None:
    """Right keys, and white space without end behind them."""
    writer.write(_head("200 OK") + server.body())
    while True:
        writer.write(b" " * 65_536)
        await writer.drain()


async def compressed(server: KeyServer, writer: asyncio.StreamWriter) -> None:
    bomb = gzip.compress(server.body() + b" " * 50_000_000)
    await plain(bomb, "content-encoding: gzip")(server, writer)


async def elsewhere(server: KeyServer, writer: asyncio.StreamWriter) -> None:
    """A redirect to an address where the right keys would be."""
    if server.targets[-1] == "/moved":
        await publish(server, writer)
        return
    await plain(b"", "location: /moved", status="302 Found")(server, writer)


async def garbage(server: KeyServer, writer: asyncio.StreamWriter) -> None:
    writer.write(b"\x16\x03\x01\x00\xff\r\n\r\n" * 50)


async def hang_up(server: KeyServer, writer: asyncio.StreamWriter) -> None:
    """The end before an answer."""
