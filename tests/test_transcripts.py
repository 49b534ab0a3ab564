"""What the guides show of the command line is what it prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from perennial.cli import main
from perennial.cli.output import show_plan
from perennial.plan import Holder, Plan, with_actors
from perennial.supervision.plan import Change, Running, plan, steps
from tests.test_docs import DOCS, fences

UP = Running(alive=True)


def shown(page: str, language: str, first: str) -> list[str]:
    """Bodies of a page's blocks that begin with some text, each without its first line."""
    blocks = fences((DOCS / "guide" / page).read_text())
    found = [body for kind, body in blocks if kind == language and body.startswith(first)]
    assert found, (page, first)
    return [body.partition("\n")[2] for body in found]


def test_the_mistakes_of_a_cluster_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    [rest] = shown("cluster-file.md", "text", "name: Lab\n")
    [printed] = shown("cluster-file.md", "console", "$ perennial check bad.yaml\n")
    (tmp_path / "bad.yaml").write_text(f"name: Lab\n{rest}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["perennial", "check", "bad.yaml"])
    with pytest.raises(SystemExit) as ended:
        main()

    assert (ended.value.code, capsys.readouterr().err) == (2, printed)


def test_the_plan_of_a_group_with_an_actor(capsys: pytest.CaptureFixture[str]) -> None:
    changed = plan(
        {"scheduler": "1", "cpu-0": "2", "cpu-1": "2", "cpu-2": "2", "jupyter": "1", "health": "1"},
        {"scheduler": "1", "cpu-0": "1", "cpu-1": "1", "jupyter": "1", "health": "1"},
        dict.fromkeys(("scheduler", "cpu-0", "cpu-1", "jupyter", "health"), UP),
    )
    actor = Holder("", "cpu", "cpu-1", 1)
    show_plan("lab", Plan(with_actors(steps(changed), [actor]), unchanged=3))

    assert capsys.readouterr().out == shown("operating.md", "console", "$ perennial plan\n")[0]


def test_the_plan_that_restarts_the_scheduler(capsys: pytest.CaptureFixture[str]) -> None:
    names = ("scheduler", "cpu-0", "cpu-1", "cpu-2", "jupyter")
    changed = [Change("replace", name, "changed") for name in names]
    show_plan("lab", Plan(steps(changed), unchanged=1))

    assert capsys.readouterr().out == shown("operating.md", "console", "$ perennial plan\n")[1]
