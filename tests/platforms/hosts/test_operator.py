"""Operate a cluster of which a machine is away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from perennial.errors import FleetError
from perennial.paths import ClusterPaths
from perennial.platforms.hosts import deploy, operator
from perennial.platforms.hosts.operator import Operator
from tests.platforms.hosts.clusters import spec_of

AWAY = "10.0.0.3"


class Answering:
    """What a machine that answers says."""

    def __init__(self, asked: list[str]) -> None:
        self.asked = asked

    def ask(self, what: str, **_: Any) -> Any:
        self.asked.append(what)
        return {"manifest": {}, "log": ["a line"]}.get(what)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []

    @contextmanager
    def borrowed(target: Any, *_: Any) -> Iterator[Answering]:
        if AWAY in str(target):
            raise FleetError("it is off")
        yield Answering(found)

    monkeypatch.setattr(operator, "borrowed", borrowed)
    monkeypatch.setattr(deploy, "alone", lambda assigned, _say: borrowed(assigned.target))
    return found


def made(folder: Path) -> Operator:
    return Operator(spec_of(), ClusterPaths(folder))


def test_the_log_of_a_machine_that_answers_is_read(
    tmp_path: Path, asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert list(made(tmp_path).logs("scheduler", 5)) == [("scheduler", "a line")]
    assert capsys.readouterr().err == "warning: it is off\n"


@pytest.mark.parametrize("word", ["cpu", None])
def test_what_can_be_read_of_a_group_is_read_before_the_error(
    tmp_path: Path, asked: list[str], word: str | None
) -> None:
    lines = made(tmp_path).logs(word, 5)
    assert next(lines)[1] == "a line"
    with pytest.raises(FleetError, match="it is off"):
        list(lines)


def test_a_restart_needs_only_the_machines_of_what_is_named(
    tmp_path: Path, asked: list[str]
) -> None:
    assert made(tmp_path).restart("scheduler", lambda _text: None) == ({}, 1)
    assert "systemd_restart" in asked
    asked.clear()
    with pytest.raises(FleetError, match="it is off"):
        made(tmp_path).restart("cpu", lambda _text: None)
    assert set(asked) == {"manifest"}
