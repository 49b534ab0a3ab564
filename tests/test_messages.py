"""Every command that a message of ours tells somebody to run exists, with its options."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_docs import ROOT, faults, generator

SOURCES = sorted(
    path
    for folder in ("perennial", "stacks")
    for path in (ROOT / folder).rglob("*.py")
    if "__pycache__" not in path.parts
)
SPAN = re.compile(r"`perennial(?: ([^`]*))?`")
#: Stands for what a message fills in.
FILLED = "\x00"


def texts(tree: ast.AST) -> Iterator[str]:
    """Every text of a module, with what is filled in marked; parts of an f-string once, joined."""
    inner = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in ast.walk(node)
        if part is not node
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else FILLED
                for part in node.values
            )
        elif (
            isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner
        ):
            yield node.value


def named(path: Path) -> Iterator[str]:
    for text in texts(ast.parse(path.read_text(encoding="utf-8"))):
        for match in SPAN.finditer(" ".join(text.split())):
            yield match[1] or ""


def test_there_are_some() -> None:
    assert sum(1 for path in SOURCES for _ in named(path)) > 100


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_message_names_can_be_run(path: Path) -> None:
    for call in named(path):
        words = call.split() or ["--help"]
        if FILLED in words[0] or words[0] == "...":
            continue
        said = f"{path.name}: `perennial {call}`".replace(FILLED, "…")
        plain = [word for word in words if FILLED not in word]
        assert list(faults(plain)) == [], said
        # Without the values of options: what is left are the command's own arguments.
        own = [
            word
            for before, word in itertools.pairwise(words)
            if not word.startswith("-") and not before.startswith("-")
        ]
        assert not own or takes_arguments(words[0]), said
        assert own[:1] != ["the"], said


def takes_arguments(command: str) -> bool:
    params = generator("generate_cli").commands()[command].params
    return any(param.param_type_name == "argument" for param in params)
