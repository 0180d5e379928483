"""Client JSON: what comes through, in which form, and what does not."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import BadFrame
from entrypoints.wire.canonical import MAX_DEPTH, recode

LARGEST = 2**1024 - 2**970  # the first integer that rounds to infinity as a double

numbers = st.one_of(
    st.integers(-LARGEST + 1, LARGEST - 1),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
)
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=30,
)


def exact(value: Any) -> str:
    """Tells apart what == does not: 1, 1.0 and True, 0.0 and -0.0, orders of keys."""
    return repr(value)


@given(json_values, st.booleans(), st.sampled_from([None, 2]))
def test_every_json_value_comes_through_unchanged(
    value: Any, ascii_only: bool, indent: int | None
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    assert exact(json.loads(recode(text))) == exact(value)


@given(json_values)
def test_canonical_json_is_stable_and_on_one_line(value: Any) -> None:
    first = recode(json.dumps(value))
    assert recode(first) == first
    assert b"\n" not in first
    assert b"\r" not in first


fragments = st.sampled_from(
    ["[", "]", "{", "}", '"', ":", ",", "\\", "\\u", "\\ud800", "1", "-", "e", "400", ".", "\n"]
)
texts = st.one_of(st.text(), st.lists(st.one_of(fragments, st.text(max_size=3))).map("".join))


@given(texts)
def test_no_text_does_more_than_be_refused(text: str) -> None:
    try:
        data = recode(text)
    except BadFrame:
        return
    assert exact(json.loads(data)) == exact(json.loads(text))


@given(st.one_of(st.binary(), texts.map(lambda text: text.encode("utf-8", "surrogatepass"))))
def test_no_bytes_do_more_than_be_refused(raw: bytes) -> None:
    try:
        data = recode(raw)
    except BadFrame:
        return
    assert exact(json.loads(data)) == exact(json.loads(raw.decode()))


@pytest.mark.parametrize(
    ("text", "data"),
    [
        (' {"b" : 1 , "a" : [ ] } ', b'{"b":1,"a":[]}'),
        ('{"a":1,"b":2,"a":3}', b'{"a":3,"b":2}'),
        ('{"a":1,"a":{"b":[]}}', b'{"a":{"b":[]}}'),
        (r'"\u00e9\/\ud83d\ude00"', '"é/😀"'.encode()),
        (r'"a\nb\r\u0000"', rb'"a\nb\r\u0000"'),
        ('"\u2028"', '"\u2028"'.encode()),
        ("18446744073709551616", b"18446744073709551616"),
        ("-9223372036854775809", b"-9223372036854775809"),
        ("1" * 308, b"1" * 308),
        (str(LARGEST - 1), str(LARGEST - 1).encode()),
        (str(1 - LARGEST), str(1 - LARGEST).encode()),
        ("1e5", b"100000.0"),
        ("1.0", b"1.0"),
        ("-0", b"0"),
        ("-0.0", b"-0.0"),
        ("1e-400", b"0.0"),
        ("1.7976931348623157e308", b"1.7976931348623157e308"),
        ("null", b"null"),
    ],
)
def test_the_form(text: str, data: bytes) -> None:
    assert recode(text) == data


BROKEN = ["", " ", "tru", "01", "+1", ".5", "1.", "1 2", "[1,]", "{,}", "{1:2}", "'a'", '"a', "[1"]
ODD = ['"\\x"', '"a\nb"', '"\x00"', "\ufeff1", "// a\n1", "[}", "NaN", "-Infinity", "[Infinity]"]
INFINITE = ["1e400", "-1e400", "1.8e308", "[[1e309]]", str(LARGEST), str(-LARGEST), "9" * 5000]
LONE = [r'"\ud800"', r'"\udc00"', r'"\ud83d\ud83d"', r'{"\ud800":1}', '"\ud800"', "\ud800"]


@pytest.mark.parametrize("text", [*BROKEN, *ODD, *INFINITE, *LONE])
def test_what_has_no_canonical_form_is_refused(text: str) -> None:
    with pytest.raises(BadFrame):
        recode(text)


@pytest.mark.parametrize(
    "raw", [b'"\xff"', b'"\xed\xa0\x80"', b'"\xc0\x80"', b'"\xf4\x90\x80\x80"', b"\xff", b'"\xc3']
)
def test_bytes_that_are_not_utf_8_are_refused(raw: bytes) -> None:
    with pytest.raises(BadFrame):
        recode(raw)


@pytest.mark.parametrize("digits", [309, 320, 1000, 4300])
@pytest.mark.parametrize("shift", range(0, 33, 3))
def test_a_huge_integer_is_found_wherever_it_stands(digits: int, shift: int) -> None:
    huge = "9" * digits
    for text in (f'{{"{"a" * shift}":[{{"b":-{huge}}}]}}', f'["{"a" * shift}",{huge}]'):
        with pytest.raises(BadFrame, match=r"number is outside|out of range"):
            recode(text)


def test_digits_in_strings_and_long_integers_that_fit_are_no_harm() -> None:
    text = json.dumps(["9" * 400, {"1" * 400: 1}, 10**308, True, None, 0.5])
    assert json.loads(recode(text)) == json.loads(text)


def nested(depth: int, opening: str, closing: str, core: str = "") -> str:
    return opening * depth + core + closing * depth


@pytest.mark.parametrize(
    ("opening", "closing", "core"), [("[", "]", ""), ('{"a":', "}", "1"), ('[{"]":', "}]", "0")]
)
def test_nesting_ends_at_its_limit(opening: str, closing: str, core: str) -> None:
    levels = opening.count("[") + opening.count("{")
    fits = nested(MAX_DEPTH // levels, opening, closing, core)
    assert recode(fits) == fits.encode()
    with pytest.raises(BadFrame, match="nested deeper"):
        recode(f"[{fits}]")


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 500, 5_000, 500_000])
@pytest.mark.parametrize("closing", ["]", ""], ids=["closed", "open"])
def test_no_depth_does_more_than_be_refused(depth: int, closing: str) -> None:
    with pytest.raises(BadFrame):
        recode(nested(depth, "[", closing))


def test_the_limit_holds_for_many_brackets_as_well() -> None:
    fits = nested(MAX_DEPTH - 1, "[", "]", "[],{},[]")
    assert recode(fits) == fits.encode()
    with pytest.raises(BadFrame, match="nested deeper"):
        recode(f"[{fits}]")


def test_width_is_not_depth() -> None:
    wide = json.dumps([[{"a": []}] for _ in range(200)])
    assert json.loads(recode(wide)) == json.loads(wide)


def test_brackets_in_strings_are_no_nesting() -> None:
    text = json.dumps({"a": '[{"' * 200, '["' * 200: ["\\", '\\"[' * 100]})
    assert json.loads(recode(text)) == json.loads(text)


def test_the_refusal_repeats_nothing_of_the_input() -> None:
    for text in ('{"secret": NaN}', '"secret\\ud800"', '["secret"', '{"secret": 1e400}'):
        with pytest.raises(BadFrame) as refusal:
            recode(text)
        assert refusal.value.message
        assert "secret" not in refusal.value.message


def test_the_bound_is_where_doubles_end() -> None:
    assert math.isfinite(float(LARGEST - 1))
    with pytest.raises(OverflowError):
        float(LARGEST)
