"""What a published set of keys is good for, and what of it is left out."""

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from adapters.tokens.key_set import KeySetUnusable, read_key_set
from tests.key_server import Issuer

RSA, EC, EDWARDS = Issuer("rsa", "RS256"), Issuer("ec", "ES256"), Issuer("ed", "EdDSA")
EVERYTHING = [issuer.published() for issuer in (RSA, EC, EDWARDS)]


def document(*keys: object) -> bytes:
    return json.dumps({"keys": keys}).encode()


def without(fields: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in names}


def test_a_key_is_found_by_its_name_and_for_its_algorithm_only() -> None:
    keys = read_key_set(document(*EVERYTHING))
    assert keys.left_out == ()
    for issuer in (RSA, EC, EDWARDS):
        for name in ("rsa", "ec", "ed", "other", "RSA", "", None):
            found = keys.find(issuer.algorithm, name)
            assert len(found) == (name in (issuer.key_id, None)), (issuer.algorithm, name)
            assert all(key.algorithms == (issuer.algorithm,) for key in found)
    for algorithm in ("HS256", "none", "PS256", None, 7, "RS512"):
        assert keys.find(algorithm, None) == []


def test_a_key_without_an_algorithm_serves_those_of_its_kind() -> None:
    keys = read_key_set(document(*(without(key, "alg", "use") for key in EVERYTHING)))
    assert len(keys.find("RS512", "rsa")) == 1
    assert keys.find("RS256", "ec") == keys.find("ES384", "ec") == keys.find("HS256", "rsa") == []


def test_keys_of_one_name_are_all_candidates() -> None:
    twin = Issuer("ec")
    keys = read_key_set(
        document(EC.published(), twin.published(), {**RSA.published(), "kid": "ec"})
    )
    assert len(keys.find("ES256", "ec")) == 2
    assert len(keys.find("RS256", "ec")) == 1


def small_rsa() -> dict[str, Any]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key()
    return RSAAlgorithm.to_jwk(key, as_dict=True)


def other_curve() -> dict[str, Any]:
    key = ec.generate_private_key(ec.SECP256K1()).public_key()
    return ECAlgorithm.to_jwk(key, as_dict=True)


def ed448_key() -> dict[str, Any]:
    return OKPAlgorithm.to_jwk(ed448.Ed448PrivateKey.generate().public_key(), as_dict=True)


def private() -> dict[str, Any]:
    return ECAlgorithm.to_jwk(EC.private, as_dict=True)


def vast_rsa() -> dict[str, Any]:
    return {"kty": "RSA", "e": "AQAB", "n": "_" * 20_000 + "w"}


LEFT_OUT: dict[str, Any] = {
    "a shared secret": lambda: {"kty": "oct", "k": "A" * 43, "alg": "HS256"},
    "a private key": private,
    "for encrypting": lambda: EC.published(use="enc"),
    "for no checking": lambda: EC.published(key_ops=["sign", "encrypt"]),
    "another algorithm": lambda: EC.published(alg="ES512"),
    "another family": lambda: RSA.published(alg="HS256"),
    "none": lambda: RSA.published(alg="none"),
    "PSS": lambda: RSA.published(alg="PS256"),
    "short RSA": small_rsa,
    "vast RSA": vast_rsa,
    "RSA of exponent 1": lambda: {**RSA.published(), "e": "AQ"},
    "RSA of even exponent": lambda: {**RSA.published(), "e": "Ag"},
    "another curve": other_curve,
    "Ed448": ed448_key,
    "a point off the curve": lambda: {**EC.published(), "x": EC.published()["y"]},
    "a kind nobody knows": lambda: {"kty": "lattice", "x": "AA"},
    "kind missing": lambda: without(EC.published(), "kty"),
    "parts missing": lambda: without(EC.published(), "x"),
    "parts of another type": lambda: {**EC.published(), "x": 7},
    "parts no base64": lambda: {**RSA.published(), "n": "é!"},
    "kid a number": lambda: EC.published(kid=7),
    "alg null": lambda: EC.published(alg=None),
    "text": lambda: "key",
    "null": lambda: None,
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_is_not_for_us_is_left_out_and_the_rest_is_not(name: str) -> None:
    key = LEFT_OUT[name]()
    keys = read_key_set(document(key, EDWARDS.published()))
    assert list(keys.named) == ["ed"]
    (reason,) = keys.left_out
    assert reason.startswith(("a key ", "an RSA key ", "use an RSA"))
    with pytest.raises(KeySetUnusable, match="none of its keys"):
        read_key_set(document(key))


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{}", b"[]", b"null", b'{"keys":{}}', b'{"keys":null}', b'{"keys":[]}', b"<html>",
        b'{"keys":[{]}', b"\xff\xfe", b"[" * 100_000, b'{"keys":' + b"[" * 100_000,
        document(*(EC.published(kid=str(number)) for number in range(65))),
    ],
    ids=lambda body: ascii(body[:16]),
)  # fmt: skip
def test_what_is_no_set_of_keys_is_refused(body: bytes) -> None:
    with pytest.raises(KeySetUnusable):
        read_key_set(body)


FIELDS = st.dictionaries(
    st.sampled_from(["kty", "kid", "use", "alg", "crv", "x", "y", "n", "e", "d", "k", "key_ops"]),
    st.sampled_from(["RSA", "EC", "OKP", "oct", "sig", "ES256", "P-256", "Ed25519", "AQAB"])
    | st.text(max_size=6)
    | st.none()
    | st.integers()
    | st.lists(st.text(max_size=4), max_size=2),
)


@given(st.lists(FIELDS | st.text(max_size=4) | st.none(), max_size=4))
def test_whatever_the_fields_the_outcome_is_keys_or_a_refusal(keys: list[object]) -> None:
    try:
        read_key_set(document(*keys))
    except KeySetUnusable:
        return
