"""What a program may import: the modules that the API reference publishes, and nothing else."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import perennial

REFERENCE = Path(__file__).parents[1] / "docs" / "reference" / "api.md"
PUBLIC = {
    "perennial.authority",
    "perennial.connect",
    "perennial.eject",
    "perennial.errors",
    "perennial.notebook",
    "perennial.render",
    "perennial.services",
    "perennial.spec",
    "perennial.stacks.hosts",
    "perennial.stacks.local",
}


def test_the_package_itself() -> None:
    assert perennial.__all__ == ["Cluster", "__version__"]
    assert all(hasattr(perennial, name) for name in perennial.__all__)


def test_the_reference_publishes_exactly_these_modules() -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    published = set(re.findall(r"^\.\. (?:auto)?module:: (\S+)$", text, re.MULTILINE))
    assert published == PUBLIC
    for name in published:
        import_module(name)
