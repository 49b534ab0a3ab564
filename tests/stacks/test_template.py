"""The template: what `pulumi new` copies, and how Pulumi finds the provider in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.labs.pulumi import settings

if TYPE_CHECKING:
    from tests.stacks.conftest import Site

TEMPLATE = Path(__file__).parents[2] / "template"
FILES = [
    ".gitignore",
    "Pulumi.yaml",
    "__main__.py",
    "bin/pulumi-resource-perennial",
    "requirements.txt",
]


def files(folder: Path) -> list[str]:
    every = (path for path in folder.rglob("*") if "__pycache__" not in path.parts)
    return sorted(path.relative_to(folder).as_posix() for path in every if path.is_file())


def test_its_files() -> None:
    assert files(TEMPLATE) == sorted(FILES)
    root = TEMPLATE.parent
    assert (TEMPLATE / "__main__.py").read_text() == (root / "__main__.py").read_text()


def test_the_provider_is_started_without_an_activated_environment(tmp_path: Path) -> None:
    shutil.copytree(TEMPLATE / "bin", tmp_path / "bin")
    script = tmp_path / "bin" / "pulumi-resource-perennial"
    bare = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run([script], env=bare, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith("not found in .venv; run `pulumi install`\n")

    (tmp_path / ".venv").symlink_to(sys.prefix)
    provider = subprocess.Popen([script], env=bare, stdout=subprocess.PIPE, text=True)
    assert provider.stdout is not None
    try:
        assert 0 < int(provider.stdout.readline()) < 65536, "its port, and nothing else"
    finally:
        provider.terminate()
        assert provider.wait(30) == 0
        provider.stdout.close()


@pytest.mark.lab
def test_pulumi_new_copies_it(site: Site) -> None:
    """The real command line; what the language host does afterwards, there is none here to do."""
    folder, states = site.root / "project", site.root / "states"
    folder.mkdir()
    states.mkdir()
    subprocess.run(
        ["pulumi", "new", TEMPLATE, "--generate-only", "--yes", "--name", "field"],
        cwd=folder,
        env={
            **site.environment,
            **settings(states),
            "PULUMI_HOME": str(site.root / "pulumi"),
        },
        capture_output=True,
        check=False,
    )
    assert files(folder) == sorted(FILES)
    assert os.access(folder / "bin" / "pulumi-resource-perennial", os.X_OK)
    assert "name: field" in (folder / "Pulumi.yaml").read_text()
