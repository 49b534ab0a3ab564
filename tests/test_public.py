"""What a program may import: the modules that the API reference publishes, and nothing else."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import perennial

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"
PUBLIC = {
    "perennial.authority",
    "perennial.connect",
    "perennial.eject",
    "perennial.errors",
    "perennial.notebook",
    "perennial.render",
    "perennial.services",
    "perennial.spec",
    "perennial.stacks.args",
    "perennial.stacks.ec2",
    "perennial.stacks.fargate",
    "perennial.stacks.hosts",
    "perennial.stacks.kubernetes",
    "perennial.stacks.local",
}
#: Modules of `perennial.stacks` that are documented as what is published.
STACKS = ("ec2", "fargate", "hosts", "local", "kubernetes", "host_resources")


def test_the_package_itself() -> None:
    assert perennial.__all__ == ["Cluster", "__version__"]
    assert all(hasattr(perennial, name) for name in perennial.__all__)


def test_the_reference_publishes_exactly_these_modules() -> None:
    text = "".join((REFERENCE / page).read_text("utf-8") for page in ("api.md", "pulumi.md"))
    published = set(re.findall(r"^\.\. (?:auto)?module:: (\S+)$", text, re.MULTILINE))
    assert published == PUBLIC
    for name in published:
        import_module(name)


def test_what_is_internal_is_documented_in_one_paragraph() -> None:
    """Sections for parameters belong to what the reference publishes, and to the contracts."""
    root = Path(perennial.__file__).parents[1]
    packages = ("connect", "services", "spec")
    modules = (
        "authority",
        "certificates",
        "eject",
        "errors",
        "notebook",
        "render",
        "revocation",
        "tls",
    )
    published = {
        *(path for name in packages for path in (root / "perennial" / name).rglob("*.py")),
        *(root / "perennial" / f"{name}.py" for name in modules),
        *(root / "stacks" / f"{name}.py" for name in STACKS),
        root / "perennial" / "registry.py",
        root / "perennial" / "fleet.py",
    }
    section = re.compile(r"^ +(?:Parameters|Returns|Raises|Attributes)\n +-{3,}$", re.MULTILINE)
    found = [
        str(path.relative_to(root))
        for top in ("perennial", "stacks")
        for path in sorted((root / top).rglob("*.py"))
        if path not in published and section.search(path.read_text(encoding="utf-8"))
    ]
    assert found == []
