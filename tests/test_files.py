"""Files are old or new, never half, and private from their first byte."""

from __future__ import annotations

import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from perennial import files
from perennial.errors import PerennialError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_and_its_new_folders_are_private(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "secret"
    before = os.umask(0)
    try:
        files.write_atomic(path, "text: ä\n")
    finally:
        os.umask(before)
    assert path.read_bytes() == "text: ä\n".encode()
    assert (mode(path), mode(path.parent), mode(path.parent.parent)) == (0o600, 0o700, 0o700)
    assert os.listdir(path.parent) == ["secret"]


def test_the_mode_asked_for_is_the_mode_it_has(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        files.write_atomic(tmp_path / "public", b"\x00\xff", 0o644)
    finally:
        os.umask(before)
    assert mode(tmp_path / "public") == 0o644
    files.write_atomic(tmp_path / "public", b"", 0o600)
    assert mode(tmp_path / "public") == 0o600


def test_an_existing_folder_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    files.write_atomic(tmp_path / "file", "x")
    assert mode(tmp_path) == 0o755


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(IsADirectoryError):
        files.write_atomic(tmp_path / "file", "x")
    assert os.listdir(tmp_path) == ["file"]


def _write_for_ever(path: str) -> None:
    while True:
        for letter in "ab":
            files.write_atomic(Path(path), letter * 200_000)


def test_a_killed_writer_leaves_a_whole_file(tmp_path: Path) -> None:
    """Real writers are killed at random moments; a reader never sees half a file."""
    path = tmp_path / "file.yaml"
    path.write_text("old" * 1000)
    seen = set()
    for _ in range(4):
        writer = multiprocessing.get_context("fork").Process(
            target=_write_for_ever, args=(str(path),)
        )
        writer.start()
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            text = path.read_text()
            seen.add((text[0], len(text), len(set(text[3:]))))
        os.kill(writer.pid or 0, signal.SIGKILL)
        writer.join()
    assert seen <= {("o", 3000, 3), ("a", 200_000, 1), ("b", 200_000, 1)}
    assert len(seen) > 1
    # What a killed writer leaves beside it is no YAML file, so Dask does not read it.
    assert [name for name in os.listdir(tmp_path) if name.endswith(".yaml")] == ["file.yaml"]


def test_json_comes_back(tmp_path: Path) -> None:
    value = {"b": [1, None, "ä"], "a": {"x": 1.5}}
    files.write_json(tmp_path / "x.json", value)
    assert files.read_json(tmp_path / "x.json") == value
    assert mode(tmp_path / "x.json") == 0o600
    files.write_json(tmp_path / "y.json", dict(reversed(value.items())))
    assert (tmp_path / "x.json").read_bytes() == (tmp_path / "y.json").read_bytes()


def test_a_missing_json_file_is_what_the_caller_says(tmp_path: Path) -> None:
    assert files.read_json(tmp_path / "none") is None
    assert files.read_json(tmp_path / "none", {}) == {}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1, 2"])
def test_damaged_json_is_one_line_that_names_the_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(
        PerennialError, match=r"x\.json is damaged: .* restore the file or remove it"
    ):
        files.read_json(path)


def test_importing_these_modules_is_light() -> None:
    heavy = "{'cryptography', 'psutil', 'distributed', 'dask', 'yaml'} & set(sys.modules)"
    code = f"import sys, perennial.authority, perennial.paths, perennial.files; print({heavy})"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "set()\n"
