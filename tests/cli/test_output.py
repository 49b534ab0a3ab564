"""How the command line speaks."""

from __future__ import annotations

import io
from typing import Any

import pytest

from perennial.cli.output import Progress


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
