"""How the command line speaks."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from perennial.cli.output import Progress
from perennial.cli.rollout import token_line


class Terminal(io.StringIO):
    """What is written to a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("text", ["reads cpu[jupyter]", "found [/x]", "a\\[b", "[bold]x"])
def test_a_terminal_shows_a_text_as_it_is(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    from rich.console import Console

    monkeypatch.setattr("sys.stderr", Terminal())
    say = Progress("lab")
    say(text)
    shown: Any = say._status
    assert shown is not None
    page = Console(file=io.StringIO(), width=200)
    page.print(shown.renderable)
    assert f"lab: {text}" in page.file.getvalue()  # type: ignore[attr-defined]


def test_a_pipe_gets_a_line_for_each_thing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    say = Progress("lab")
    for text in ("one", "one", "[two]"):
        say(text)
    assert capsys.readouterr().err == "lab: one\nlab: [two]\n"


def test_a_token_is_shown_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What a pipe gets ends in a log, such as that of a CI."""
    token = tmp_path / "token"
    token.write_text("5ecre7\n")
    monkeypatch.setattr("sys.stdout", io.StringIO())
    assert token_line(token) == f"in {token}"
    monkeypatch.setattr("sys.stdout", Terminal())
    assert token_line(token) == "5ecre7   (shown this once)"


@pytest.mark.parametrize("closed", [(1,), (2,), (0,), (0, 1, 2)], ids=str)
def test_a_standard_stream_may_be_closed(tmp_path: Path, closed: tuple[int, ...]) -> None:
    """As cron and some service managers start a program: no file of ours may get its number."""
    file = tmp_path / "cluster.yaml"
    file.write_text("name: lab\nplatform: local\nworkers: {cpu: {memory: 1 GiB}}\n")
    before = file.read_bytes()
    close = " ".join(f"{number}>&-" for number in closed)
    code = (
        "import os, sys; from perennial.cli import output; output.guard();"
        "assert [os.fstat(n) for n in range(3)]; opened = os.open(sys.argv[1], os.O_RDWR);"
        "print('out', flush=True); print('error', file=sys.stderr, flush=True);"
        "sys.exit(opened > 2)"
    )
    for what in (["-m", "perennial", "list"], ["-c", code, str(file)]):
        done = subprocess.run(
            ["bash", "-c", f'exec "$@" {close}', "bash", sys.executable, *what],
            env={**os.environ, "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stderr
        assert done.returncode == (what[0] == "-c"), done.stderr
        assert bool(done.stdout) == (1 not in closed)
    assert file.read_bytes() == before
