"""How the code handles secrets, as far as its shape shows it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("domain", "application", "adapters", "entrypoints")
_SECRET = re.compile(r"(^|_)(secret|secrets|password|credential|signature|api_key|hmac)($|_)")

# Compared with what is no secret of ours, or with nothing: where, and why.
_HARMLESS = {
    ("entrypoints/settings_keys.py", "rule.secret() in secrets"): "at start, with each other",
    ("entrypoints/settings_sections.py", "secret in _PUBLISHED"): "with what everybody may read",
}


def names(node: ast.AST) -> Iterator[str]:
    """Every name in an expression but those of constants."""
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            yield part.id
        elif isinstance(part, ast.Attribute):
            yield part.attr


def compared(source: str) -> Iterator[str]:
    """Comparisons of a secret by an operator that ends at the first difference. With None, a
    number or a length it is no comparison of its text."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Compare):
            continue
        if not all(isinstance(op, ast.Eq | ast.NotEq | ast.In | ast.NotIn) for op in node.ops):
            continue
        sides = [node.left, *node.comparators]
        if any(_of_no_text(side) for side in sides):
            continue
        if any(_SECRET.search(name.lower()) for side in sides for name in names(side)):
            yield ast.unparse(node)


def _of_no_text(side: ast.AST) -> bool:
    if isinstance(side, ast.Constant):
        return True
    call = isinstance(side, ast.Call) and isinstance(side.func, ast.Name | ast.Attribute)
    return call and ast.unparse(side.func).rpartition(".")[2] in {"len", "count", "strip"}  # type: ignore[attr-defined]


def test_no_secret_is_compared_with_an_operator() -> None:
    found = {
        (str(module.relative_to(ROOT)), comparison)
        for package in PACKAGES
        for module in (ROOT / package).rglob("*.py")
        for comparison in compared(module.read_text(encoding="utf-8"))
    }
    assert found == set(_HARMLESS)


@pytest.mark.parametrize(
    "source",
    [
        "credential == known",
        "known != self._api_key",
        "signature in signatures",
        "settings.auth.hmac_secret.get_secret_value() == text",
    ],
)
def test_such_a_comparison_is_found(source: str) -> None:
    assert list(compared(source)) == [source]


@pytest.mark.parametrize(
    "source", ["secret is None", "len(secret) < 32", "name == 'secret'", "compare_digest(a, b)"]
)
def test_others_are_left_alone(source: str) -> None:
    assert list(compared(source)) == []


def test_digests_are_compared_by_the_function_for_it() -> None:
    page = (ROOT / "entrypoints/http/api/callers.py").read_text(encoding="utf-8")
    calls = [
        ast.unparse(node.func) for node in ast.walk(ast.parse(page)) if isinstance(node, ast.Call)
    ]
    assert "compare_digest" in calls
