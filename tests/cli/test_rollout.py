"""What `up` does on every platform, beside what the toy platform shows."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from perennial import contracts, services
from perennial.cli import rollout
from perennial.contracts import ServiceStatus, Status
from perennial.errors import PerennialError


class Runtime(contracts.Runtime):
    """A cluster whose workers register one after another, but for those that never do."""

    def __init__(self, never: Collection[str] = ()) -> None:
        super().__init__("toy", "lab")
        self.waited = ["cpu-0", "cpu-1", "cpu-2"]
        self.there: list[str] = []
        self.never = never

    def awaited(self) -> Collection[str]:
        return self.waited

    def registered(self) -> Collection[str]:
        found, coming = list(self.there), [one for one in self.waited if one not in self.never]
        self.there = coming[: len(found) + 1]
        return found


def test_an_up_waits_until_all_workers_have_registered() -> None:
    said: list[str] = []
    rollout.await_workers(Runtime(), said.append)
    assert said == ["0 of 3 workers", "1 of 3 workers", "2 of 3 workers"]


def test_an_up_names_the_workers_that_do_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "START_TIMEOUT", 2.0)
    with pytest.raises(
        PerennialError, match="lab: cpu-1 not there after 2 s; see `perennial logs cpu-1`"
    ):
        rollout.await_workers(Runtime(never=["cpu-1"]), lambda _text: None)


def test_a_platform_that_has_waited_is_not_asked() -> None:
    running = Runtime(never=["cpu-0"])
    running.waited = []
    rollout.await_workers(running, lambda _text: pytest.fail("nothing is said"))


def test_json_has_no_key_for_what_a_platform_does_not_know() -> None:
    """Scripts read this: its keys and their order are those of earlier versions."""
    from perennial.cli.status import _as_json

    rows = [
        ServiceStatus("cpu-ma-0", "ma", "RUNNING", pid=7),
        ServiceStatus("mb", "mb", "UNREACHABLE", note="it is off"),
    ]
    numbers = ["pid", "uptime", "restarts", "memory", "cpu"]
    found = _as_json("lab", Status(None, {"cpu": 1}, rows, None), None)
    assert list(found) == ["name", "sizes", "services", "scheduler", "scaler"]
    assert [list(row) for row in found["services"]] == [
        ["service", "machine", "state", *numbers],
        ["service", "machine", "state", *numbers, "note"],
    ]
    rows = [ServiceStatus("cpu-0", None, "RUNNING", note="")]
    found = _as_json("lab", Status(8, {"cpu": 1}, rows, None), None)
    assert list(found) == ["name", "supervisord", "sizes", "services", "scheduler", "scaler"]
    assert list(found["services"][0]) == ["service", "state", *numbers, "note"]
