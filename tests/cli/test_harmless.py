"""What others write never reaches a terminal as an order."""

from __future__ import annotations

import contextlib
import http.server
import io
import json
import os
import pty
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perennial import paths
from perennial.cli import output
from perennial.connect import Connection, save
from tests.dask_processes import environment
from tests.homes import PERENNIAL, Home

#: Clear the screen, set the title, a hidden link, an answer typed for the user, and bidi.
HOSTILE = (
    "a\x1b[2J\x1b]0;title\x07\x1b]8;;http://evil/\x1b\\b\x1b[31mred\x9b1mC1\x1bP$q\x1b\\"
    "\x1b[6n\b\b\r\x07\x90x\x9c\u202etxt\u2066\u200f\x1b"
)
SHOWN = "abredC1txt"


def orders(text: str) -> set[str]:
    """Control characters in a text, but for newlines and tabs."""
    return set(re.findall("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text))


def test_sequences_go_as_a_whole_and_letters_stay() -> None:
    assert output.harmless(HOSTILE) == SHOWN
    assert output.harmless("täglich\t日本 → é\n🙂") == "täglich\t日本 → é\n🙂"
    # What is left of one sequence never makes another, and an open one hides no further line.
    assert orders(output.harmless("\x1b\x1b[31m[31m\x1b\x1b]0;")) == set()
    assert output.harmless("\x1b]0;x\nnext\x07") == "]0;x\nnext"


@pytest.mark.parametrize("part", ["\x9d", "\x1b]", "\x9b", "\x1b[", "\x900", "\x1bP\x9d", "\u202e"])
def test_a_hostile_line_holds_nobody_up(part: str) -> None:
    """Sequences that begin and begin took the square of their number: an hour for a megabyte."""
    begun = time.process_time()
    assert orders(output.harmless(part * 300_000)) == set()
    assert time.process_time() - begun < 60


@given(st.text(st.characters() | st.sampled_from("\x1b\x9b\x9d\x07\\[]0;m\u202e")))
def test_nothing_is_left_to_obey(text: str) -> None:
    clean = output.harmless(text)
    assert orders(clean) == set()
    assert output.harmless(clean) == clean
    clean.encode()


def terminal(home: Path, *words: str, answer: bytes = b"") -> tuple[int, str]:
    """Run a command on a terminal of its own; its exit code, and all that it wrote."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [PERENNIAL, *words],
        env=environment(home, {"TERM": "xterm"}),
        cwd=home,
        stdin=follower,
        stdout=follower,
        stderr=follower,
    )
    os.close(follower)
    os.write(leader, answer)
    said = b""
    with contextlib.suppress(OSError):  # EIO once the last writer has gone
        while part := os.read(leader, 65536):
            said += part
    os.close(leader)
    return process.wait(60), said.decode().replace("\r\n", "\n")


def bundle(file: Path, **fields: str) -> Path:
    import hashlib

    content = {**Connection("lab", "tcp://192.0.2.7:8786").to_json(), **fields}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    value = {"format": "dask-perennial connection", "version": 1, "content": content}
    file.write_text(json.dumps({**value, "sha256": hashlib.sha256(text.encode()).hexdigest()}))
    return file


def test_an_error_about_a_hostile_name_is_shown_harmless(tmp_path: Path) -> None:
    file = bundle(tmp_path / "lab.bundle", cluster=HOSTILE)
    code, said = terminal(tmp_path, "connect", str(file))
    assert code == 1
    assert "is no cluster name" in said
    assert orders(said) == set()
    for words in (("status", "-c", HOSTILE.replace("\0", "")), ("connect", f"/{HOSTILE}")):
        code, said = terminal(tmp_path, *words)
        assert code == 1
        assert orders(said) == set()


def test_a_question_about_a_bundle_on_a_terminal(tmp_path: Path) -> None:
    first = bundle(tmp_path / "first.bundle")
    assert terminal(tmp_path, "connect", str(first), "--unencrypted")[0] == 0
    # The name of the file comes from whoever sent it.
    file = bundle(tmp_path / f"{HOSTILE.replace('/', '')}.b", scheduler_address="tcp://x:1")
    words = ("connect", str(file), "--unencrypted")
    code, said = terminal(tmp_path, *words, answer=b"n\n")
    assert code == 1
    assert "address tcp://192.0.2.7:8786 → tcp://x:1. Take the bundle's? [y/N]: " in said
    assert said.endswith("nothing was changed\n")
    assert orders(said.replace("^[", "")) <= {"\x1b", "\b"}  # echo of the terminal's own
    assert "\x1b[2J" not in said
    assert "\u202e" not in said
    assert terminal(tmp_path, *words, answer=b"y\n")[0] == 0
    file = bundle(file)
    ended = subprocess.run(
        [PERENNIAL, *words], env=environment(tmp_path), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert "stdin is no terminal: add --replace to continue" in ended.stderr


@contextlib.contextmanager
def answering(body: bytes) -> Iterator[int]:
    """A port that gives the same answer to every question."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    "body", [b"{}", b"[]", b"7", b'{"workers": {}}', b'{"workers": [1]}', b"\xff", b"[" * 9000]
)
def test_a_malformed_answer_is_no_answer(body: bytes) -> None:
    from perennial.supervision.dashboard import Dashboard

    with answering(body) as port:
        dashboard = Dashboard(port)
        assert dashboard.counts() is None
        assert dashboard.worker_names() == frozenset()
        assert dashboard.parked() == frozenset()


def test_colours_of_our_own_stay_and_those_of_others_go(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.table import Table
    from rich.text import Text

    file = io.StringIO()
    monkeypatch.setattr("sys.stdout", file)
    monkeypatch.setattr("sys.stderr", io.StringIO())
    output.guard()
    print(HOSTILE)
    print("x", HOSTILE, file=sys.stdout)
    assert file.getvalue() == f"{SHOWN}\nx {SHOWN}\n"
    console = output.console(force_terminal=True, color_system="standard", width=200)
    table = Table()
    table.add_column(HOSTILE)
    table.add_row(Text(HOSTILE, style="red"))
    console.print(table)
    shown = file.getvalue()
    # Nothing but colours, and of these our own: the title bold, the cell red, and their ends.
    ours = re.findall("\x1b\\[[0-9;]*m", shown)
    assert set(ours) == {"\x1b[1m", "\x1b[31m", "\x1b[0m"}
    assert len(ours) == shown.count("\x1b")
    assert orders(shown) == {"\x1b"}


def test_a_hostile_log_on_a_terminal(home: Home) -> None:
    """A task's output stands in its worker's log, and `logs` prints it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(home.root / "s"))
        state = paths.cluster_state("lab")
        state.logs.mkdir(parents=True)
        state.spec.write_text(home.file.read_text())
        save(state, Connection("lab", "tcp://127.0.0.1:1"))
    (state.logs / "cpu-0.log").write_text(f"{HOSTILE}\nplain\n")
    said = home.run("logs", "cpu-0")
    assert orders(said) == set()
    # A carriage return begins another line of the log.
    assert said.replace("\n", "").startswith("abredC1")
    assert said.endswith("plain\n")


def test_an_unexpected_fault_is_one_line() -> None:
    from perennial.cli import said

    line = said(KeyError("workers"))
    assert line.startswith("found something that this version cannot handle (KeyError: 'workers')")
    assert "`perennial --debug`" in line
