"""Keys at an address: fetched, kept, renewed, and what becomes of tokens without them."""

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from adapters.prometheus_metrics import PrometheusMetrics
from adapters.tokens.authenticator import JwtAuthenticator
from adapters.tokens.remote_keys import Pace, RemoteKeys
from domain.errors import HubbubError, TokenInvalid, Unavailable
from tests import key_server
from tests.certificates import certificate
from tests.key_server import Answer, Issuer, KeyServer
from tests.peer import until

# Nothing happens by itself within a test, and everything may happen at once.
STILL = Pace(refresh=3600, cooldown=0, retry=3600, retry_most=3600, stale=3600, timeout=20)
LIVELY = STILL._replace(refresh=0.01, retry=0.01, retry_most=0.02)


def claims(user: str = "ann") -> dict[str, Any]:
    return {"sub": user, "exp": time.time() + 600}


class Verifier:
    """An authenticator over keys at an address, and the time by which they grow old."""

    def __init__(self, url: str, pace: Pace, *, local: bool = True) -> None:
        self.now = 1000.0
        self.metrics = PrometheusMetrics()
        self.keys = RemoteKeys(url, self.metrics, local=local, pace=pace, clock=lambda: self.now)
        self.authenticator = JwtAuthenticator([], more=self.keys)

    async def user(self, token: str) -> str:
        return (await self.authenticator.authenticate(token)).user

    async def refusal(self, token: str) -> type[HubbubError]:
        with pytest.raises(HubbubError) as refused:
            await self.authenticator.authenticate(token)
        assert refused.value.__context__ is None
        return type(refused.value)

    def fetches(self, outcome: str) -> float:
        text = self.metrics.render()[0].decode()
        line = f'hubbub_key_fetches_total{{outcome="{outcome}"}} '
        return float(text.partition(line)[2].partition("\n")[0] or 0)


Verify = Callable[..., Verifier]


@pytest.fixture
async def started() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def issuer(started: AsyncExitStack) -> KeyServer:
    server = await KeyServer().start()
    started.push_async_callback(server.stop)
    return server


@pytest.fixture
def verify(started: AsyncExitStack, issuer: KeyServer) -> Verify:
    def begin(pace: Pace = STILL, url: str | None = None, **options: Any) -> Verifier:
        verifier = Verifier(url or issuer.url, pace, **options)
        running = asyncio.get_running_loop().create_task(verifier.authenticator.run())

        async def end() -> None:
            running.cancel()
            await asyncio.wait({running})
            assert running.cancelled()

        started.push_async_callback(end)
        return verifier

    return begin


OLD, NEW = Issuer("2025"), Issuer("2026", "RS256")


async def test_the_first_token_waits_for_the_keys(issuer: KeyServer, verify: Verify) -> None:
    issuer.keys = [OLD.published(), NEW.published()]
    verifier = verify()
    assert not verifier.authenticator.healthy
    assert await verifier.user(OLD.sign(claims())) == "ann"
    assert verifier.authenticator.healthy
    assert await verifier.user(NEW.sign(claims("bob"))) == "bob"
    assert issuer.targets == ["/keys.json"]
    assert verifier.fetches("ok") == 1


async def test_a_token_of_a_known_key_waits_for_nothing(issuer: KeyServer, verify: Verify) -> None:
    issuer.keys = [OLD.published()]
    verifier = verify()
    await verifier.user(OLD.sign(claims()))
    coroutine = verifier.authenticator.authenticate(OLD.sign(claims()))
    with pytest.raises(StopIteration):
        coroutine.send(None)


async def test_a_key_that_is_new_is_fetched_by_the_first_token_that_names_it(
    issuer: KeyServer, verify: Verify
) -> None:
    issuer.keys = [OLD.published()]
    verifier = verify()
    await verifier.user(OLD.sign(claims()))
    issuer.keys = [NEW.published(), OLD.published()]
    assert await verifier.user(NEW.sign(claims())) == "ann"
    assert await verifier.user(OLD.sign(claims())) == "ann"
    assert len(issuer.heads) == 2


async def test_a_key_that_is_withdrawn_counts_no_more_after_the_next_look(
    issuer: KeyServer, verify: Verify
) -> None:
    issuer.keys = [OLD.published(), NEW.published()]
    verifier = verify(LIVELY)
    await verifier.user(OLD.sign(claims()))
    issuer.keys = [NEW.published()]
    asked = len(issuer.heads)
    await until(lambda: len(issuer.heads) > asked + 2)
    assert await verifier.refusal(OLD.sign(claims())) is TokenInvalid
    assert await verifier.user(NEW.sign(claims())) == "ann"


async def test_many_tokens_at_once_lead_to_one_request(issuer: KeyServer, verify: Verify) -> None:
    issuer.keys = [OLD.published()]
    verifier = verify()
    tokens = [OLD.sign(claims(f"user{number}")) for number in range(50)]
    users = await asyncio.gather(*map(verifier.user, tokens))
    assert users == [f"user{number}" for number in range(50)]
    assert len(issuer.heads) == 1


async def test_names_that_do_not_exist_are_looked_for_once_in_a_cooldown(
    issuer: KeyServer, verify: Verify
) -> None:
    issuer.keys = [OLD.published()]
    verifier = verify(STILL._replace(cooldown=10))
    await verifier.user(OLD.sign(claims()))
    for number in range(30):
        token = OLD.sign(claims(), kid=f"made-up-{number}")
        assert await verifier.refusal(token) is TokenInvalid
    assert len(issuer.heads) == 1
    verifier.now += 11
    crowd = [OLD.sign(claims(), kid=f"made-up-{number}") for number in range(30)]
    assert set(await asyncio.gather(*map(verifier.refusal, crowd))) == {TokenInvalid}
    assert len(issuer.heads) == 2


async def test_what_no_published_key_could_have_signed_leads_to_no_request(
    issuer: KeyServer, verify: Verify
) -> None:
    issuer.keys = [OLD.published()]
    verifier = verify()
    await verifier.user(OLD.sign(claims()))
    other = Issuer(OLD.key_id)
    for token in ("garbage", "a.b.c", OLD.sign(claims(), crit=["x"]), other.sign(claims())):
        assert await verifier.refusal(token) is TokenInvalid
    assert len(issuer.heads) == 1


async def test_only_the_configured_address_is_asked(issuer: KeyServer, verify: Verify) -> None:
    issuer.keys = [OLD.published()]
    verifier = verify()
    stranger = Issuer("mine")
    elsewhere = issuer.url.replace("keys", "evil")
    header = {"jku": elsewhere, "x5u": elsewhere, "jwk": stranger.published()}
    for kid in (None, "mine", elsewhere, "../evil.json", "2025\r\nx: y", "2025' or 1"):
        token = stranger.sign({**claims(), "iss": elsewhere}, kid=kid or "", **header)
        assert await verifier.refusal(token) is TokenInvalid
    assert set(issuer.targets) == {"/keys.json"}


async def test_a_token_without_a_name_is_checked_with_all(
    issuer: KeyServer, verify: Verify
) -> None:
    nameless, other = Issuer(None), Issuer("other")
    issuer.keys = [other.published(), nameless.published()]
    verifier = verify()
    assert await verifier.user(nameless.sign(claims())) == "ann"
    renewed = Issuer(None)
    issuer.keys = [renewed.published()]
    assert await verifier.user(renewed.sign(claims())) == "ann"
    assert await verifier.refusal(nameless.sign(claims())) is TokenInvalid


def plain(body: bytes, status: str = "200 OK") -> Answer:
    return key_server.plain(body, status=status)


MISBEHAVIOUR: dict[str, tuple[Answer, str]] = {
    "a redirect": (key_server.elsewhere, "redirects are not followed"),
    "an error": (plain(b'{"keys":[]}', "500 Oops"), "the answer is 500"),
    "nothing": (plain(b"", "204 No Content"), "the answer is 204"),
    "no keys": (plain(b'{"keys":[]}'), "it has no keys"),
    "a page": (plain(b"<html>login</html>"), "no JSON object"),
    "garbage": (key_server.garbage, "RemoteProtocolError"),
    "hanging up": (key_server.hang_up, "RemoteProtocolError"),
    "no end": (key_server.flood, "has over 262144 bytes"),
    "a bomb": (key_server.compressed, "compressed"),
    "deep brackets": (plain(b'{"keys":' + b"[" * 200_000), "no JSON object"),
}


@pytest.mark.parametrize("name", MISBEHAVIOUR)
async def test_after_a_bad_answer_the_keys_of_before_still_count(
    name: str, issuer: KeyServer, verify: Verify, caplog: pytest.LogCaptureFixture
) -> None:
    issuer.keys = [OLD.published()]
    verifier = verify()
    await verifier.user(OLD.sign(claims()))
    issuer.keys = [OLD.published(), NEW.published()]
    issuer.answer, complaint = MISBEHAVIOUR[name]
    assert await verifier.refusal(NEW.sign(claims())) is Unavailable
    assert await verifier.user(OLD.sign(claims())) == "ann"
    assert verifier.authenticator.healthy
    assert complaint in caplog.text
    assert "/moved" not in issuer.targets
    issuer.answer = key_server.publish
    assert await verifier.user(NEW.sign(claims())) == "ann"


@pytest.mark.parametrize("answer", [key_server.silence, key_server.drip], ids=["silent", "slow"])
async def test_a_slow_address_holds_up_nobody_whose_key_is_known(
    answer: Answer, issuer: KeyServer, verify: Verify, caplog: pytest.LogCaptureFixture
) -> None:
    issuer.keys = [OLD.published()]
    verifier = verify(STILL._replace(timeout=0.3))
    await verifier.user(OLD.sign(claims()))
    issuer.answer = answer
    waiting = asyncio.ensure_future(verifier.refusal(NEW.sign(claims())))
    await until(lambda: len(issuer.heads) == 2)
    assert await verifier.user(OLD.sign(claims())) == "ann"
    assert await waiting is Unavailable
    assert "no whole answer within 0.3 s" in caplog.text


async def test_an_address_where_nobody_is_at_the_start_is_tried_again(
    issuer: KeyServer, verify: Verify, caplog: pytest.LogCaptureFixture
) -> None:
    await issuer.stop()
    verifier = verify(LIVELY)
    assert await verifier.refusal(OLD.sign(claims())) is Unavailable
    assert not verifier.authenticator.healthy
    assert "tokens cannot be checked, and this node is not ready" in caplog.text
    back = await KeyServer(OLD).start(port=issuer.port)
    try:
        await until(lambda: verifier.authenticator.healthy)
        assert await verifier.user(OLD.sign(claims())) == "ann"
    finally:
        await back.stop()


async def test_who_asks_during_the_pause_after_a_failure_is_told_at_once(
    issuer: KeyServer, verify: Verify
) -> None:
    issuer.answer = key_server.hang_up
    verifier = verify(STILL._replace(cooldown=10))
    for _ in range(20):
        assert await verifier.refusal(OLD.sign(claims())) is Unavailable
    assert len(issuer.heads) == 1


async def test_keys_that_cannot_be_renewed_are_believed_for_a_bounded_time(
    issuer: KeyServer, verify: Verify
) -> None:
    issuer.keys = [OLD.published()]
    verifier = verify()
    await verifier.user(OLD.sign(claims()))
    issuer.answer = key_server.hang_up
    verifier.now += STILL.stale - 1
    assert await verifier.user(OLD.sign(claims())) == "ann"
    verifier.now += 2
    assert not verifier.authenticator.healthy
    assert await verifier.refusal(OLD.sign(claims())) is Unavailable
    issuer.answer = key_server.publish
    assert await verifier.user(OLD.sign(claims())) == "ann"
    assert verifier.authenticator.healthy


async def test_nobody_waits_for_ever_when_it_ends(issuer: KeyServer, verify: Verify) -> None:
    issuer.answer = key_server.silence
    verifier = Verifier(issuer.url, STILL._replace(timeout=0.05))
    assert await verifier.refusal(OLD.sign(claims())) is Unavailable  # it has not begun
    verifier.keys._pace = STILL
    running = asyncio.ensure_future(verifier.authenticator.run())
    await until(lambda: len(issuer.heads) == 1)
    waiting = asyncio.ensure_future(verifier.refusal(OLD.sign(claims())))
    await asyncio.sleep(0)
    running.cancel()
    assert await waiting is Unavailable
    await asyncio.wait({running})


async def test_pauses_grow_and_differ() -> None:
    keys = RemoteKeys("http://127.0.0.1/", PrometheusMetrics(), local=True)
    assert keys._pause(0) == 300
    for failures, longest in ((1, 1), (2, 2), (4, 8), (7, 60), (10_000, 60)):
        pauses = {keys._pause(failures) for _ in range(50)}
        assert len(pauses) > 40
        assert longest / 2 <= min(pauses)
        assert max(pauses) <= longest


async def test_what_is_left_out_is_told_once_and_no_secret_is(
    issuer: KeyServer, verify: Verify, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    caplog.set_level(logging.WARNING, "httpx")  # as the server has it
    canary = "canarycanarycanarycanarycanary"
    issuer.keys = [OLD.published(), {"kty": "oct", "k": canary, "kid": canary}]
    verifier = verify(LIVELY, url=f"{issuer.url}?apikey={canary}")
    await until(lambda: len(issuer.heads) > 3)
    assert f"/keys.json?apikey={canary}" in issuer.targets
    assert await verifier.user(OLD.sign(claims())) == "ann"
    assert caplog.text.count("a key is a shared secret") == 1
    issuer.answer = key_server.garbage
    await until(lambda: verifier.fetches("failed") > 3)
    assert canary not in caplog.text


async def test_over_tls_the_certificate_must_be_good(
    tmp_path: Path, verify: Verify, started: AsyncExitStack, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    cert, key = certificate(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(cert, key)
    server = await KeyServer(OLD).start(tls)
    started.push_async_callback(server.stop)
    for proxy in ("HTTPS_PROXY", "ALL_PROXY", "https_proxy", "all_proxy"):
        monkeypatch.delenv(proxy, raising=False)
    stranger = verify(url=server.url, local=False)
    assert await stranger.refusal(OLD.sign(claims())) is Unavailable
    assert "CERTIFICATE_VERIFY_FAILED" in caplog.text
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    believer = verify(url=server.url, local=False)
    assert await believer.user(OLD.sign(claims())) == "ann"


async def test_another_issuer_with_a_key_of_the_same_name_is_not_believed(
    issuer: KeyServer, verify: Verify
) -> None:
    impostor = Issuer("2025")
    issuer.keys = [OLD.published()]
    verifier = verify()
    assert await verifier.refusal(impostor.sign(claims())) is TokenInvalid
    assert await verifier.user(OLD.sign(claims())) == "ann"
