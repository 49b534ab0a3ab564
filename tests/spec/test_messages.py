"""What a person reads: each broken file in ``cases`` and its message, word for word.

``PERENNIAL_REWRITE=1 python -m pytest tests/spec/test_messages.py`` writes the messages anew.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from perennial import fleets
from perennial.errors import SpecError
from perennial.spec import loads, tree

CASES = Path(__file__).parent / "cases"
BROKEN = sorted(path for path in CASES.glob("*.yaml") if path.stem != "everything")


def message(file: Path) -> str:
    with pytest.raises(SpecError) as caught:
        loads(file.read_text(), file.name)
    assert caught.value.exit_code == 2
    return f"{caught.value}\n"


@pytest.mark.parametrize("file", BROKEN, ids=lambda file: file.stem)
def test_message(file: Path) -> None:
    expected = file.with_suffix(".txt")
    if os.environ.get("PERENNIAL_REWRITE"):
        expected.write_text(message(file))
    assert message(file) == expected.read_text()


@pytest.mark.parametrize("file", BROKEN, ids=lambda file: file.stem)
def test_without_libyaml(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where PyYAML has no compiled parser, its own finds the same faults on the same lines."""
    expected = file.with_suffix(".txt").read_text()
    monkeypatch.setattr(tree, "_LOADER", yaml.SafeLoader)
    if file.stem.startswith(("syntax-", "tab")):
        assert message(file).count("\n") == expected.count("\n")
        assert message(file).startswith(f"{file.name}:")
    else:
        assert message(file) == expected


def test_options_of_another_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(fleets.PLATFORMS, "other", "perennial.fleets.local")
    text = "name: lab\nplatform: local\nworkers: {cpu: {}}\nother: {address: 127.0.0.1}\n"
    with pytest.raises(SpecError) as caught:
        loads(text, "lab.yaml")
    assert str(caught.value) == (
        "lab.yaml:4: other: found options of the platform other; allowed: those of the platform "
        "local; remove them or change platform"
    )
    assert loads(text.replace("platform: local", "platform: other")).options.address == "127.0.0.1"


def test_faults_are_limited() -> None:
    text = "name: lab\nplatform: local\n" + "".join(f"key-{n}: 1\n" for n in range(1000))
    with pytest.raises(SpecError) as caught:
        loads(text, "lab.yaml")
    lines = str(caught.value).split("\n")
    assert len(lines) == 51
    assert lines[-1].startswith("lab.yaml: (file): found 951 more faults;")
