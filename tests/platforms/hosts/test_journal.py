"""Logs beside supervisord, read on from where the last look ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from perennial.files import make_private, write_json
from perennial.platforms.hosts.agent import journal, manifest


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    monkeypatch.setattr(manifest, "STATE", tmp_path)
    make_private(manifest.supervised("lab") / "logs")
    write_json(manifest.path("lab"), {"init": "supervisord"})
    return manifest.supervised("lab") / "logs" / "cpu-0.log"


def since(cursor: str | None, lines: int = 5) -> tuple[list[str], str | None]:
    return journal.log_since("lab", "cpu-0", lines, cursor)


def append(log: Path, data: bytes) -> None:
    with log.open("ab") as file:
        file.write(data)


def test_every_line_is_read_once_whatever_letters_it_has(log: Path) -> None:
    log.write_bytes(b"before\n")
    found, cursor = since(None)
    assert found == ["before"]
    seen: list[str] = []
    # Letters of several bytes, bytes that are no letters, and a line that comes in two parts.
    parts = [
        "gr\u00fc\u00dfe \u2603\n".encode(),
        b"\xff\xfe broken \xe2\x98\n",
        b"half \xe2",
        b"\x98\x83 whole\n",
        b"last\n",
    ]
    for part in parts:
        append(log, part)
        found, cursor = since(cursor)
        seen += found
    assert seen == [
        "gr\u00fc\u00dfe \u2603",
        "\ufffd\ufffd broken \ufffd",
        "half \u2603 whole",
        "last",
    ]
    assert since(cursor) == ([], cursor)


def test_a_log_that_was_begun_anew_is_read_from_its_beginning(log: Path) -> None:
    log.write_bytes(b"old\n" * 3)
    _, cursor = since(None)
    log.rename(log.with_suffix(".log.1"))
    log.write_bytes(b"new\n" * 9)  # longer than the other one was
    found, cursor = since(cursor)
    assert found == ["new"] * 9
    log.write_bytes(b"short\n")
    assert since(cursor)[0] == ["short"]


def test_a_long_log_is_read_in_parts(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "LONGEST", 10)
    log.write_bytes(b"")
    _, cursor = since(None)
    append(log, "\u2603\u2603\u2603\n\u2603\u2603\nxyz\n".encode() + b"a" * 25 + b"\nend\n")
    seen: list[str] = []
    for _ in range(8):
        found, cursor = since(cursor)
        seen += found
    assert "".join(seen) == "\u2603" * 5 + "xyz" + "a" * 25 + "end"


def test_a_log_that_is_not_there(log: Path) -> None:
    found, cursor = since(None)
    assert found == []
    log.write_bytes(b"first\n")
    assert since(cursor)[0] == ["first"]


def test_the_last_lines_of_a_log(log: Path) -> None:
    log.write_bytes(b"one\ntwo\nthree\n")
    assert since(None, 2)[0] == ["two", "three"]
    assert since(None, 0)[0] == []
    assert since(None, 9)[0] == ["one", "two", "three"]
