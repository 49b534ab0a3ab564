"""What no contract of import-linter sees: names in strings, and tests of a platform's name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from perennial.registry import PLATFORMS
from perennial.supervision.supervisor import started_as

ROOT = Path(__file__).parents[1]
#: What is a platform's own.
OWN = ("perennial/platforms/{}/", "stacks/{}.py")


def _sources(*folders: str) -> Iterator[tuple[str, str]]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), path.read_text()


def _compared(node: ast.AST) -> set[str]:
    """Texts with which something is compared."""
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
    elif isinstance(node, ast.MatchValue):
        sides = [node.value]
    else:
        return set()
    return {
        each.value
        for side in sides
        for each in ast.walk(side)
        if isinstance(each, ast.Constant) and isinstance(each.value, str)
    }


def test_no_code_asks_for_a_platform_by_its_name() -> None:
    own = [place.format(name) for place in OWN for name in PLATFORMS]
    found = [
        f"{path}:{node.lineno}"
        for path, text in _sources("perennial", "stacks")
        if not path.startswith(tuple(own))
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Compare | ast.MatchValue) and _compared(node) & set(PLATFORMS)
    ]
    assert found == []


def test_no_platform_names_another_ones_modules() -> None:
    found = [
        f"{path}: {other}"
        for path, text in _sources("perennial/platforms")
        for other in PLATFORMS
        if f"perennial.platforms.{other}" in text
        if not path.startswith(f"perennial/platforms/{other}/")
    ]
    for path, text in _sources("stacks"):
        if "perennial.platforms.local" in text and not path.endswith("/local.py"):
            found.append(path)
    assert found == []


@pytest.mark.parametrize(
    ("module", "now"),
    [("hold", "single_instance"), ("health", "health"), ("part", "run_once")],
)
def test_names_that_standing_clusters_have_written_down_stay(module: str, now: str) -> None:
    """They stand in units and programs; another name replaces every service, with its work."""
    assert started_as(module) == f"perennial.local.{module}"
    assert find_spec(started_as(module)) is not None
    assert find_spec(f"perennial.supervision.{now}") is not None
