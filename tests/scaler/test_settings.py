"""The scaler's configuration: what is taken, and what is refused in one line."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from perennial.errors import PerennialError
from perennial.platforms.memory import MemoryHandle
from perennial.scaler import settings
from perennial.scaler.__main__ import main

GOOD: dict[str, Any] = {
    **{"cluster": "lab", "platform": "memory", "scheduler": "tls://127.0.0.1:8786"},
    **{"tls": {"ca": "/a", "cert": "/b", "key": "/c"}, "interval": 5, "state": "/tmp/x"},
    **{"port": 8790, "dry_run": False, "budget": None, "http": "127.0.0.1:8787"},
    "groups": [
        {
            **{"name": "cpu", "min": 0, "max": 4, "slots": 4, "resources": {}, "idle": None},
            **{"memory": 2**32, "cost": 1.5, "on_deadline": "stop", "fleet": {"group": "cpu"}},
            "schedules": [{"days": "mon-fri", "from": "08:00", "to": "18:00", "min": 2}],
        }
    ],
}


def test_all_that_can_be_said_is_understood() -> None:
    found = settings.parse(GOOD)
    (group,) = found.groups
    assert (group.group.name, group.group.max, group.group.cost) == ("cpu", 4, 1.5)
    assert (group.on_deadline, group.schedules[0].min) == ("stop", 2)
    assert group.fleet == MemoryHandle(group="cpu")
    assert (found.interval, found.state, found.budget) == (5.0, Path("/tmp/x"), None)


def test_little_is_enough() -> None:
    least = {"cluster": "a", "platform": "memory", "scheduler": "tcp://h:1", "state": "/s"}
    found = settings.parse({**least, "groups": []})
    assert (found.tls, found.port, found.groups) == (None, 0, ())


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("interval",), "often", "interval: found 'often'"),
        (("interval",), 0, "interval: found 0"),
        (("platform",), "mars", "platform: found mars; allowed: one of "),
        (("scheduler",), "127.0.0.1:8786", "scheduler: found '127.0.0.1:8786'"),
        (("tls",), None, "tls: found nothing; allowed: ca, cert and key"),
        (("tls", "ca"), ..., "tls.ca: found nothing"),
        (("state",), "here", "state: found 'here'"),
        (("colour",), "red", "colour: found 'red'; allowed: no such key"),
        (("groups", 0, "max"), -1, "groups[0].min: found 0; allowed: 0 to max, which is -1"),
        (("groups", 0, "max"), "many", "groups[0].max: found 'many'"),
        (("groups", 0, "name"), ..., "groups[0].name: found nothing"),
        (("groups", 0, "fleet"), ..., "groups[0].fleet: found nothing"),
        (("groups", 0, "fleet"), {}, "groups[0].fleet.group: found nothing"),
        (("groups", 0, "fleet", "colour"), 1, "groups[0].fleet.colour: found 1; allowed: no such"),
        (("tls", "colour"), 1, "tls.colour: found 1; allowed: no such key"),
        (("groups", 0, "slots"), 0, "groups[0].slots: found 0"),
        (("groups", 0, "colour"), 1, "groups[0].colour: found 1; allowed: no such key"),
        (("groups", 0, "on_deadline"), "pray", "groups[0].on_deadline: found 'pray'"),
        (("groups", 0, "schedules", 0, "from"), "8", "groups[0].schedules[0].from: found '8'"),
        (("groups", 1), GOOD["groups"][0], "groups[1].name: found cpu; allowed: a name that no"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(path: Any, value: Any, said: str) -> None:
    wrong = deepcopy(GOOD)
    at: Any = wrong
    for key in path[:-1]:
        at = at[key]
    if value is ...:
        del at[path[-1]]
    elif isinstance(at, list):
        at.append(value)
    else:
        at[path[-1]] = value
    with pytest.raises(PerennialError) as caught:
        settings.parse(wrong, "scaler.json")
    message = str(caught.value)
    assert message.startswith(f"scaler.json: {said}")
    assert message.endswith("`perennial up` or `pulumi up` writes this file anew")
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"interval": NaN}', "\xff"])
def test_a_file_that_is_no_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    path = tmp_path / "scaler.json"
    path.write_text(text, "latin-1")
    assert main([str(path)]) == 1
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert said.startswith(str(path))


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.json")]) == 1
    assert "No such file" in capsys.readouterr().err


def test_json_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "scaler.json"
    path.write_text(json.dumps(GOOD))
    assert settings.read(path) == settings.parse(GOOD)
