"""Files are taken into use once a version; a bad one is named once and tried again."""

from __future__ import annotations

import os
from pathlib import Path

from perennial.preloads.watching import Watched


class Numbers(Watched):
    """Two files with a number each."""

    def __init__(self, *paths: Path) -> None:
        super().__init__(paths)
        self.taken: list[list[int]] = []
        self.said: list[str] = []

    def take(self) -> None:
        self.taken.append([int(path.read_text()) for path in self.paths])

    def complain(self, error: OSError | ValueError) -> None:
        self.said.append(str(error))


def test_each_version_is_taken_once_and_outlives_its_file(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    found = Numbers(first, second)
    first.write_text("1")
    found.look()  # half of it is not there yet
    assert (found.taken, found.said, found.used) == ([], [], ())
    second.write_text("2")
    found.look()
    found.look()
    assert found.taken == [[1, 2]]
    # Of the same length and time, as a fast rotation makes it: another file all the same.
    times = second.stat()
    new = tmp_path / "new"
    new.write_text("3")
    os.utime(new, ns=(times.st_atime_ns, times.st_mtime_ns))
    new.replace(second)
    found.look()
    assert found.taken == [[1, 2], [1, 3]]
    first.unlink()
    found.look()
    assert found.taken == [[1, 2], [1, 3]]
    assert found.said == []


def test_a_version_that_cannot_be_used_is_named_once_and_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("1")
    found = Numbers(path)
    found.look()
    before = found.used
    path.write_text("no number")
    for _ in range(3):
        found.look()
    assert len(found.said) == 1
    assert found.used == before
    path.write_text("neither one")
    found.look()
    assert len(found.said) == 2
    path.write_text("4")
    found.look()
    assert found.taken == [[1], [4]]
