"""Each table of features names only tests that exist, and no feature of ours goes without one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "docs" / "concepts" / f"{name}-features.md" for name in ("aws", "kubernetes")]
ROW = re.compile(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|([^|]*)\|$", re.M)
TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def rows(text: str) -> list[tuple[str, str, str]]:
    """Feature, what we have of it, and the tests, of each row below the head."""
    return [(row[0], row[3], row[4]) for row in ROW.findall(text) if row[0] != "feature"]


def faults(text: str) -> list[str]:
    found = []
    for feature, here, shown in rows(text):
        tests = TEST.findall(shown)
        if here[0] not in "YPN" or (here[0] != "N") != bool(tests):
            found.append(f"{feature}: {here} with {len(tests)} tests")
        found += [f"{path}::{test}" for path, test in tests if not exists(ROOT / path, test)]
    return found


def exists(path: Path, test: str) -> bool:
    if not path.is_file():
        return False
    nodes = ast.walk(ast.parse(path.read_text()))
    return test in {node.name for node in nodes if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_feature_has_a_test_that_exists(page: Path) -> None:
    text = page.read_text()

    assert len(rows(text)) == len(re.findall(r"^\| (?!feature)", text, re.M)) > 30
    assert faults(text) == []


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("| a | N | N | Y | |", "a: Y with 0 tests"),
        (
            "| a | N | N | N | `tests/test_features.py::test_the_check_finds_what_is_wrong` |",
            "a: N with 1 tests",
        ),
        (
            "| a | N | N | P, a bit | `tests/test_features.py::test_no` |",
            "tests/test_features.py::test_no",
        ),
        ("| a | N | N | Y | `tests/test_no.py::test_no` |", "tests/test_no.py::test_no"),
    ],
)
def test_the_check_finds_what_is_wrong(row: str, fault: str) -> None:
    assert faults(row) == [fault]
