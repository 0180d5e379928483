"""What every Authenticator promises, then what forged and odd JSON Web Tokens come to."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.prometheus_metrics import PrometheusMetrics
from adapters.tokens.authenticator import MAX_TOKEN, JwtAuthenticator
from adapters.tokens.keys import KeyUnusable, VerificationKey, hmac_key, load_public_key
from adapters.tokens.remote_keys import Pace, RemoteKeys
from application.ports.authentication import Authenticator
from domain.errors import HubbubError, TokenExpired, TokenInvalid
from domain.grants import DEFAULT_GRANTS, Grants, Identity
from tests.key_server import Issuer, KeyServer

NOW = 1_800_000_000.0
SECRET = b"0123456789abcdef" * 4
Claims = dict[str, Any]


# --- the harness: an authenticator beside somebody who issues tokens it believes ---------------


@dataclass
class Harness:
    """`issue` signs with the right key, `forge` with another key of the same kind."""

    authenticator: Authenticator
    issue: Callable[[Claims], str]
    forge: Callable[[Claims], str]
    clock: list[float] = field(default_factory=lambda: [NOW])


@cache
def private_key(algorithm: str, number: int) -> Any:
    """Keys are slow to make; two of each kind are enough."""
    return {
        "RS": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
        "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "ES512": lambda: ec.generate_private_key(ec.SECP521R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate,
    }["RS" if algorithm.startswith("RS") else algorithm]()


def public_pem(key: Any) -> bytes:
    return bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def private_pem(key: Any) -> bytes:
    return bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def jwt_harness(algorithm: str, folder: Path) -> Harness:
    """Keys that are given at the start."""
    if algorithm.startswith("HS"):
        key, right, wrong = hmac_key(SECRET), SECRET, SECRET[::-1]
    else:
        right, wrong = private_key(algorithm, 0), private_key(algorithm, 1)
        path = folder / "public.pem"
        path.write_bytes(public_pem(right))
        key = load_public_key(path)
    clock = [NOW]
    return Harness(
        JwtAuthenticator([key], clock=lambda: clock[0]),
        lambda claims: jwt.encode(claims, right, algorithm),
        lambda claims: jwt.encode(claims, wrong, algorithm),
        clock,
    )


async def remote_harness(algorithm: str, stack: AsyncExitStack) -> Harness:
    """Keys that are fetched from an address."""
    right, wrong = Issuer("it", algorithm), Issuer("it", algorithm)
    server = await KeyServer(right).start()
    stack.push_async_callback(server.stop)
    keys = RemoteKeys(server.url, PrometheusMetrics(), local=True, pace=Pace(cooldown=0))
    running = asyncio.ensure_future(keys.run())

    async def end() -> None:
        running.cancel()
        await asyncio.wait({running})

    stack.push_async_callback(end)
    clock = [NOW]
    authenticator = JwtAuthenticator([], more=keys, clock=lambda: clock[0])
    return Harness(authenticator, right.sign, wrong.sign, clock)


ALGORITHMS = [
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA",
]  # fmt: skip


REMOTE = ["RS256 at an address", "ES256 at an address", "EdDSA at an address"]


@pytest.fixture(params=[*ALGORITHMS, *REMOTE])
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Harness]:
    algorithm = request.param.split()[0]
    async with AsyncExitStack() as stack:
        if request.param in REMOTE:
            yield await remote_harness(algorithm, stack)
        else:
            yield jwt_harness(algorithm, tmp_path)


def good(**more: Any) -> Claims:
    return {"sub": "ann", "exp": int(NOW) + 60, **more}


async def refusal(authenticator: Authenticator, token: str) -> HubbubError:
    """The error a token leads to. It must not carry the token, whoever logs it."""
    with pytest.raises(HubbubError) as caught:
        await authenticator.authenticate(token)
    error = caught.value
    assert error.__cause__ is None
    assert error.__context__ is None
    # A handful of letters may well be in the text without coming from the token.
    assert len(token) < 16 or token not in f"{error!r} {error} {error.message}"
    return error


def judged(authenticator: Authenticator, token: str) -> HubbubError:
    """As `refusal`, for a test that is called many times."""
    return asyncio.run(refusal(authenticator, token))


# --- the contract ------------------------------------------------------------------------------


async def test_a_good_token_names_its_user(harness: Harness) -> None:
    identity = await harness.authenticator.authenticate(harness.issue(good()))
    assert identity == Identity("ann", DEFAULT_GRANTS, b"null", NOW + 60)  # type: ignore[arg-type]


async def test_a_token_carries_grants_info_and_its_own_name(harness: Harness) -> None:
    claims = good(rooms={"chat:*": ["join"]}, info={"name": "Änn"}, jti="t1", iat=int(NOW) - 5)
    identity = await harness.authenticator.authenticate(harness.issue(claims))
    assert identity.grants == Grants({"chat:*": ["join"]})
    assert json.loads(identity.info) == {"name": "Änn"}
    assert (identity.token_id, identity.issued_at) == ("t1", NOW - 5)


async def test_tokens_are_told_apart_when_checked_at_the_same_time(harness: Harness) -> None:
    users = [f"user{number}" for number in range(20)]
    tokens = [harness.issue(good(sub=user)) for user in users]
    identities = await asyncio.gather(*map(harness.authenticator.authenticate, tokens))
    assert [identity.user for identity in identities] == users


async def test_a_token_expires_when_its_time_and_the_leeway_are_over(harness: Harness) -> None:
    token = harness.issue(good())
    harness.clock[0] = NOW + 64.9
    assert (await harness.authenticator.authenticate(token)).user == "ann"
    harness.clock[0] = NOW + 65
    assert isinstance(await refusal(harness.authenticator, token), TokenExpired)


async def test_a_token_of_another_key_is_invalid(harness: Harness) -> None:
    assert isinstance(await refusal(harness.authenticator, harness.forge(good())), TokenInvalid)


async def test_an_expired_forgery_is_invalid_rather_than_expired(harness: Harness) -> None:
    token = harness.forge(good(exp=int(NOW) - 999))
    assert isinstance(await refusal(harness.authenticator, token), TokenInvalid)


@pytest.mark.parametrize("claim", ["sub", "exp"])
async def test_a_token_without_a_user_or_an_end_is_invalid(harness: Harness, claim: str) -> None:
    claims = good()
    del claims[claim]
    assert isinstance(await refusal(harness.authenticator, harness.issue(claims)), TokenInvalid)


GARBAGE = [
    "", ".", "..", "...", "a.b.c", "null", "\0", "é.é.é", "e30.e30.", "\ud800", "eyJ\udfff.a.b",
    " " * 100, "." * MAX_TOKEN, "A" * (MAX_TOKEN + 1), "A" * 10_000_000, "[" * 5_000,
]  # fmt: skip


@pytest.mark.parametrize("token", GARBAGE, ids=lambda token: ascii(token[:12]))
async def test_garbage_is_invalid(harness: Harness, token: str) -> None:
    assert isinstance(await refusal(harness.authenticator, token), TokenInvalid)


async def test_a_changed_character_anywhere_is_noticed(harness: Harness) -> None:
    token = harness.issue(good())
    for place in range(0, len(token), 7):
        changed = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        assert isinstance(await refusal(harness.authenticator, changed), TokenInvalid)


# --- forged JSON Web Tokens --------------------------------------------------------------------


def segment(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def raw_token(header: object, payload: bytes, secret: bytes = SECRET) -> str:
    """A token with exactly this header and payload, signed with HMAC-SHA-256 by hand, because
    the library refuses to make bad ones."""
    signed = f"{segment(json.dumps(header).encode())}.{segment(payload)}"
    return f"{signed}.{segment(hmac.digest(secret, signed.encode(), 'sha256'))}"


HS256 = {"alg": "HS256", "typ": "JWT"}
PAYLOAD = json.dumps(good()).encode()


def with_secret(**options: Any) -> JwtAuthenticator:
    return JwtAuthenticator([hmac_key(SECRET)], clock=lambda: NOW, **options)


def with_public_key(algorithm: str = "RS256") -> tuple[JwtAuthenticator, bytes]:
    key = private_key(algorithm, 0)
    algorithms = ("RS256", "RS384", "RS512") if algorithm == "RS256" else (algorithm,)
    verification = VerificationKey(key.public_key(), algorithms)
    return JwtAuthenticator([verification], clock=lambda: NOW), public_pem(key)


async def test_the_hand_made_token_is_good_when_nothing_is_wrong_with_it() -> None:
    identity = await with_secret().authenticate(raw_token(HS256, PAYLOAD))
    assert identity.user == "ann"


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none"}, {"alg": "None"}, {"alg": "NONE"}, {"alg": ""}, {"alg": None},
        {"alg": ["HS256"]}, {"alg": {"HS256": 1}}, {"alg": 1}, {}, [], "HS256", None,
        {"alg": "hs256"}, {"alg": "HS1"}, {"alg": "RS256"}, {"alg": "PS256"}, {"alg": "ES256K"},
        {**HS256, "crit": ["exp"]}, {**HS256, "crit": []}, {**HS256, "crit": None},
        {**HS256, "crit": ["b64"], "b64": True}, {**HS256, "b64": False},
        {**HS256, "kid": 7}, {**HS256, "kid": {}},
    ],
    ids=json.dumps,
)  # fmt: skip
async def test_a_header_that_asks_for_anything_else_is_invalid(header: object) -> None:
    assert isinstance(await refusal(with_secret(), raw_token(header, PAYLOAD)), TokenInvalid)


@pytest.mark.parametrize("algorithm", ["none", "None", "nOnE"])
async def test_an_unsigned_token_is_invalid(algorithm: str) -> None:
    unsigned = f"{segment(json.dumps({'alg': algorithm}).encode())}.{segment(PAYLOAD)}"
    for token in (unsigned, f"{unsigned}.", f"{unsigned}.AAAA"):
        assert isinstance(await refusal(with_secret(), token), TokenInvalid)
        assert isinstance(await refusal(with_public_key()[0], token), TokenInvalid)


async def test_a_signature_cut_off_is_invalid() -> None:
    token = raw_token(HS256, PAYLOAD)
    head = token[: token.rindex(".")]
    for cut in (head, f"{head}.", token[:-1], token[:-4]):
        assert isinstance(await refusal(with_secret(), cut), TokenInvalid)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_a_public_key_is_no_hmac_secret(algorithm: str) -> None:
    authenticator, pem = with_public_key(algorithm)
    for secret in (pem, pem.strip(), pem.replace(b"\n", b"")):
        for claimed in ("HS256", "HS384", "HS512", algorithm):
            token = raw_token({"alg": claimed}, PAYLOAD, secret)
            assert isinstance(await refusal(authenticator, token), TokenInvalid)


async def test_beside_a_secret_a_public_key_still_only_checks_its_own_family() -> None:
    public = private_key("RS256", 0).public_key()
    keys = [hmac_key(SECRET), VerificationKey(public, ("RS256", "RS384", "RS512"))]
    both = JwtAuthenticator(keys, clock=lambda: NOW)
    for token in (
        raw_token(HS256, PAYLOAD),
        jwt.encode(good(), private_key("RS256", 0), "RS512"),
    ):
        assert (await both.authenticate(token)).user == "ann"
    for token in (
        raw_token(HS256, PAYLOAD, public_pem(private_key("RS256", 0))),
        raw_token({"alg": "RS256"}, PAYLOAD),
        jwt.encode(good(), private_key("RS256", 0), "PS256"),
        jwt.encode(good(), private_key("ES256", 0), "ES256"),
    ):
        assert isinstance(await refusal(both, token), TokenInvalid)


async def test_an_elliptic_key_does_not_check_another_curve() -> None:
    authenticator, _ = with_public_key("ES256")
    token = jwt.encode(good(), private_key("ES384", 0), "ES384")
    assert isinstance(await refusal(authenticator, token), TokenInvalid)


async def test_two_secrets_are_both_believed_while_one_replaces_the_other() -> None:
    fresh = SECRET[::-1]
    both = JwtAuthenticator([hmac_key(fresh), hmac_key(SECRET)], clock=lambda: NOW)
    for secret in (fresh, SECRET):
        assert (await both.authenticate(raw_token(HS256, PAYLOAD, secret))).user == "ann"


async def test_without_keys_every_token_is_invalid() -> None:
    keyless = JwtAuthenticator([], clock=lambda: NOW)
    assert isinstance(await refusal(keyless, raw_token(HS256, PAYLOAD)), TokenInvalid)


async def test_the_shortest_secret_serves_every_hash() -> None:
    secret = SECRET[:32]
    authenticator = JwtAuthenticator([hmac_key(secret)], clock=lambda: NOW)
    header = json.dumps({"alg": "HS512"}).encode()
    signed = f"{segment(header)}.{segment(PAYLOAD)}"
    signature = hmac.new(secret, signed.encode(), hashlib.sha512).digest()
    assert (await authenticator.authenticate(f"{signed}.{segment(signature)}")).user == "ann"


# --- odd claims --------------------------------------------------------------------------------

FAR_TOO_DEEP = b"[" * 2_000 + b"]" * 2_000
ODD_CLAIMS = {
    "exp in quotes": b'{"sub":"ann","exp":"1900000000"}',
    "exp true": b'{"sub":"ann","exp":true}',
    "exp null": b'{"sub":"ann","exp":null}',
    "exp NaN": b'{"sub":"ann","exp":NaN}',
    "exp Infinity": b'{"sub":"ann","exp":Infinity}',
    "exp 1e400": b'{"sub":"ann","exp":1e400}',
    "exp list": b'{"sub":"ann","exp":[1900000000]}',
    "sub number": b'{"sub":7,"exp":1900000000}',
    "sub null": b'{"sub":null,"exp":1900000000}',
    "sub empty": b'{"sub":"","exp":1900000000}',
    "sub with a space": b'{"sub":"an n","exp":1900000000}',
    "sub with a line feed": b'{"sub":"ann\\n","exp":1900000000}',
    "sub too long": b'{"sub":"' + b"a" * 129 + b'","exp":1900000000}',
    "sub personal room": b'{"sub":"@\xc3\xa4","exp":1900000000}',
    "lone surrogate": b'{"sub":"\\ud800","exp":1900000000}',
    "bad UTF-8": b'{"sub":"\xff","exp":1900000000}',
    "not an object": b'["sub","exp"]',
    "not JSON": b"sub=ann",
    "nothing": b"",
    "nbf ahead": b'{"sub":"ann","exp":1900000000,"nbf":1800000006}',
    "nbf text": b'{"sub":"ann","exp":1900000000,"nbf":"0"}',
    "iat ahead": b'{"sub":"ann","exp":1900000000,"iat":1800000006}',
    "iat negative": b'{"sub":"ann","exp":1900000000,"iat":-1}',
    "jti number": b'{"sub":"ann","exp":1900000000,"jti":7}',
    "iss number": b'{"sub":"ann","exp":1900000000,"iss":7}',
    "aud number": b'{"sub":"ann","exp":1900000000,"aud":7}',
    "rooms null": b'{"sub":"ann","exp":1900000000,"rooms":null}',
    "rooms list": b'{"sub":"ann","exp":1900000000,"rooms":["chat:*"]}',
    "rooms text": b'{"sub":"ann","exp":1900000000,"rooms":{"chat:*":"join"}}',
    "rooms unknown action": b'{"sub":"ann","exp":1900000000,"rooms":{"chat:*":["jion"]}}',
    "rooms bad pattern": b'{"sub":"ann","exp":1900000000,"rooms":{"*chat":["join"]}}',
    "info NaN": b'{"sub":"ann","exp":1900000000,"info":NaN}',
    "info 1e400": b'{"sub":"ann","exp":1900000000,"info":[1e400]}',
    "info huge integer": b'{"sub":"ann","exp":1900000000,"info":[1' + b"0" * 400 + b"]}",
    "info lone surrogate": b'{"sub":"ann","exp":1900000000,"info":{"name":"\\udfff"}}',
    "info bad UTF-8": b'{"sub":"ann","exp":1900000000,"info":"\xff"}',
    "info too deep": b'{"sub":"ann","exp":1900000000,"info":' + b"[" * 65 + b"]" * 65 + b"}",
    "info far too deep": b'{"sub":"ann","exp":1900000000,"info":' + FAR_TOO_DEEP + b"}",
}  # fmt: skip


async def test_a_claim_nobody_knows_may_be_as_deep_as_python_reads() -> None:
    """How deep that is depends on its version; beyond it the token is invalid."""
    payload = b'{"sub":"ann","exp":1900000000,"x":' + b"[" * 3_000 + b"]" * 3_000 + b"}"
    token = raw_token(HS256, payload)
    with suppress(TokenInvalid):
        assert (await with_secret().authenticate(token)).user == "ann"


@pytest.mark.parametrize("payload", ODD_CLAIMS.values(), ids=ODD_CLAIMS)
async def test_odd_claims_are_invalid(payload: bytes) -> None:
    assert isinstance(await refusal(with_secret(), raw_token(HS256, payload)), TokenInvalid)


@pytest.mark.parametrize(
    ("info", "canonical"),
    [
        (b'{ "a" : 1,\n"a":2 }', b'{"a":2}'),
        (b'"\\u00e9"', '"é"'.encode()),
        (b"[" * 64 + b"]" * 64, b"[" * 64 + b"]" * 64),
        (b"false", b"false"),
    ],
)
async def test_info_is_passed_on_in_canonical_form(info: bytes, canonical: bytes) -> None:
    payload = b'{"sub":"ann","exp":1900000000,"info":%s}' % info
    assert (await with_secret().authenticate(raw_token(HS256, payload))).info == canonical


async def test_an_end_beyond_every_timer_is_brought_into_reach() -> None:
    for exp in (b"1e300", b"1" + b"0" * 400):
        payload = b'{"sub":"ann","exp":%s}' % exp
        identity = await with_secret().authenticate(raw_token(HS256, payload))
        assert identity.expires_at is not None
        assert identity.expires_at < 1e12


async def test_an_empty_rooms_claim_grants_nothing() -> None:
    token = raw_token(HS256, json.dumps(good(rooms={})).encode())
    assert (await with_secret().authenticate(token)).grants == Grants({})


@pytest.mark.parametrize(
    ("options", "claims", "accepted"),
    [
        ({"issuer": "us"}, {"iss": "us"}, True),
        ({"issuer": "us"}, {"iss": "them"}, False),
        ({"issuer": "us"}, {"iss": "US"}, False),
        ({"issuer": "us"}, {}, False),
        ({}, {"iss": "anybody"}, True),
        ({"audience": "hubbub"}, {"aud": "hubbub"}, True),
        ({"audience": "hubbub"}, {"aud": ["other", "hubbub"]}, True),
        ({"audience": "hubbub"}, {"aud": "hubbub2"}, False),
        ({"audience": "hub"}, {"aud": "hubbub"}, False),
        ({"audience": "hubbub"}, {"aud": []}, False),
        ({"audience": "hubbub"}, {}, False),
        ({}, {"aud": "anything"}, True),
    ],
)
async def test_issuer_and_audience_count_when_they_are_configured(
    options: dict[str, str], claims: Claims, accepted: bool
) -> None:
    authenticator = with_secret(**options)
    token = raw_token(HS256, json.dumps(good(**claims)).encode())
    if accepted:
        assert (await authenticator.authenticate(token)).user == "ann"
    else:
        assert isinstance(await refusal(authenticator, token), TokenInvalid)


any_input = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)
CLAIMS = st.fixed_dictionaries(
    {},
    optional={
        "sub": st.just("ann") | JSON_VALUES,
        "exp": st.floats(NOW - 100, NOW + 100) | JSON_VALUES,
        "iat": st.floats(NOW - 100, NOW + 100) | JSON_VALUES,
        "nbf": st.floats(NOW - 100, NOW + 100) | JSON_VALUES,
        "iss": st.just("us") | JSON_VALUES,
        "aud": st.just("hubbub") | JSON_VALUES,
        "jti": JSON_VALUES,
        "rooms": st.dictionaries(st.just("chat:*") | st.text(max_size=4), JSON_VALUES)
        | JSON_VALUES,
        "info": JSON_VALUES,
    },
)


@any_input
@given(claims=CLAIMS)
def test_whatever_the_claims_the_outcome_is_an_identity_or_a_refusal(claims: Claims) -> None:
    token = raw_token(HS256, json.dumps(claims).encode("utf-8", "surrogatepass"))
    authenticator = with_secret(issuer="us", audience="hubbub")
    try:
        identity = asyncio.run(authenticator.authenticate(token))
    except (TokenInvalid, TokenExpired):
        return
    assert claims["sub"] == identity.user
    assert type(claims["exp"]) in (int, float)
    assert claims["exp"] > NOW - 5
    assert claims["iss"] == "us"
    assert "hubbub" in claims["aud"]
    assert json.loads(identity.info) == claims.get("info")


@any_input
@given(token=st.text() | st.text("eyJhbGciOIUz.-_=", min_size=1).map(lambda text: "eyJ" + text))
def test_whatever_the_text_it_is_refused_as_invalid(token: str) -> None:
    assert isinstance(judged(with_secret(), token), TokenInvalid)


@any_input
@given(payload=st.binary(max_size=200))
def test_whatever_was_signed_it_is_refused_as_invalid(payload: bytes) -> None:
    assert isinstance(judged(with_secret(), raw_token(HS256, payload)), TokenInvalid)


# --- keys --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 31])
def test_a_short_secret_is_refused(size: int) -> None:
    with pytest.raises(KeyUnusable, match="at least 32 bytes"):
        hmac_key(b"x" * size)


def test_a_key_does_not_show_itself() -> None:
    assert SECRET.decode() not in repr(hmac_key(SECRET))


UNUSABLE: dict[str, tuple[Callable[[], bytes], str]] = {
    "text": (lambda: b"hello", "does not hold a public key"),
    "empty": (lambda: b"", "does not hold a public key"),
    "private": (lambda: private_pem(private_key("ES256", 0)), "holds a private key"),
    "short RSA": (lambda: public_pem(rsa.generate_private_key(65537, 1024)), "at least 2048 bits"),
    "DSA": (lambda: public_pem(dsa.generate_private_key(1024)), "use an RSA"),
    "Ed448": (lambda: public_pem(ed448.Ed448PrivateKey.generate()), "use an RSA"),
    "another curve": (lambda: public_pem(ec.generate_private_key(ec.SECP256K1())), "use an RSA"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_file_without_a_usable_public_key_is_refused(name: str, tmp_path: Path) -> None:
    make, reason = UNUSABLE[name]
    path = tmp_path / "key.pem"
    path.write_bytes(make())
    with pytest.raises(KeyUnusable, match=reason):
        load_public_key(path)


def test_a_missing_key_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyUnusable, match="No such file"):
        load_public_key(tmp_path / "nowhere.pem")
