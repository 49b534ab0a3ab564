"""Who can change what a path leads to."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from perennial.owners import untrusted_part

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes what is root's")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that root alone can change, as none below /tmp is."""
    made = Path(tempfile.mkdtemp(prefix="owners-", dir="/run"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def python(folder: Path) -> Path:
    (folder / "env" / "bin").mkdir(parents=True)
    made = folder / "env" / "bin" / "python"
    made.write_text("#!/bin/sh\n")
    made.chmod(0o755)
    return made


def test_what_is_roots_in_every_part(python: Path, folder: Path) -> None:
    (folder / "python").symlink_to("env/bin/../bin/python")
    assert untrusted_part(str(python)) is None
    assert untrusted_part(str(folder / "python")) is None
    assert untrusted_part(str(folder / "missing" / "python")) is None


def test_a_part_is_another_users(python: Path) -> None:
    os.chown(python, 12345, 12345)
    assert untrusted_part(str(python)) == f"{python} belongs to user 12345"
    os.chown(python, 0, 0)
    os.chown(python.parent, 65534, 0)
    assert untrusted_part(str(python)) == f"{python.parent} belongs to user nobody"


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777])
def test_others_may_write_to_a_part(python: Path, mode: int) -> None:
    python.parents[1].chmod(mode)
    assert untrusted_part(str(python)) == f"others than root may write to {python.parents[1]}"


def test_links_are_followed_part_by_part(python: Path, folder: Path) -> None:
    theirs = folder / "theirs"
    theirs.mkdir()
    os.chown(theirs, 12345, 12345)
    (theirs / "env").symlink_to(folder / "env")
    (folder / "ours").symlink_to(theirs)
    foreign = f"{theirs} belongs to user 12345"
    assert untrusted_part(str(folder / "ours" / "env" / "bin" / "python")) == foreign
    link = folder / "link"
    link.symlink_to(python)
    os.chown(link, 12345, 12345, follow_symlinks=False)
    assert untrusted_part(str(link)) == f"{link} belongs to user 12345"


def test_links_in_a_circle_lead_nowhere(folder: Path) -> None:
    (folder / "a").symlink_to("b")
    (folder / "b").symlink_to("a")
    assert untrusted_part(str(folder / "a")) is None
