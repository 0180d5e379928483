"""docs/security.md, held against the tests: each row of its matrix names what holds it."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/security.md").read_text(encoding="utf-8")
ROWS = 47
_TEST = re.compile(r"`(test_\w+)`")


def rows() -> list[list[str]]:
    matrix = PAGE.partition("<!-- matrix -->")[2]
    lines = [line for line in matrix.splitlines() if line.startswith("| ")][1:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def existing() -> set[str]:
    """Every test there is."""
    found: set[str] = set()
    for module in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found.add(node.name)
    return {name for name in found if name.startswith("test_")}


def test_the_matrix_has_every_row_once_and_in_order() -> None:
    assert [int(row[0]) for row in rows()] == list(range(1, ROWS + 1))
    assert {len(row) for row in rows()} == {4}


def test_every_row_names_tests_and_all_of_them_exist() -> None:
    named = {row[0]: set(_TEST.findall(row[3])) for row in rows()}
    assert [number for number, tests in named.items() if not tests] == []
    assert set().union(*named.values()) - existing() == set()


def test_a_test_that_does_not_exist_is_found() -> None:
    assert _TEST.findall("`test_a`, `test_b`") == ["test_a", "test_b"]
    assert "test_a_test_that_does_not_exist_is_found" in existing()
    assert "test_there_is_no_such_test" not in existing()
