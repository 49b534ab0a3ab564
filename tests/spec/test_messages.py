"""What a person reads: each broken file in ``cases`` and its message, word for word.

``PERENNIAL_REWRITE=1 python -m pytest tests/spec/test_messages.py`` writes the messages anew.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from perennial.errors import SpecError
from perennial.registry import PLATFORMS
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
    monkeypatch.setitem(PLATFORMS, "other", PLATFORMS["local"])
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


#: What people write in the place of something else, as it stands in a file.
WRONG = ("true", "'x y'", "-1", "100000000", "[1]", "null", "yes", "007", "{a: 1}", "2.5", "1_000")
FIX = re.compile(r"; (?:write|add) `([^`]+)`$")


def places(node: Any, at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Key paths of a file, but for what is below lists and Dask's own configuration."""
    for key, value in node.items():
        yield (*at, key)
        if isinstance(value, dict) and key not in ("dask", "env"):
            yield from places(value, (*at, key))


def put(data: dict[str, Any], at: tuple[str, ...], text: str) -> str:
    """Write a file again with another text in one place."""
    mark = "A-MARK"
    node = data = deepcopy(data)
    for key in at[:-1]:
        node = node[key]
    node[at[-1]] = mark
    return json.dumps(data).replace(f'"{mark}"', text)


EVERYTHING = tree.read_tree((CASES / "everything.yaml").read_text()).data()


@pytest.mark.parametrize("at", list(places(EVERYTHING)), ids=".".join)
def test_what_a_message_says_to_write_is_right(at: tuple[str, ...]) -> None:
    """The value that a message proposes is accepted at that key."""
    for wrong in WRONG:
        try:
            loads(put(EVERYTHING, at, wrong), "lab.yaml")
        except SpecError as error:
            faults = [fault for fault in error.faults if fault.path == ".".join(at)]
        else:
            continue
        for fault in faults:
            if not (fix := FIX.search(f"; {fault.fix}")):
                continue
            key, _, value = fix[1].partition(": ")
            assert key == at[-1], fault
            try:
                loads(put(EVERYTHING, at, value), "lab.yaml")
            except SpecError as error:
                # Other keys may have to follow; this one is as it should be.
                left = [each for each in error.faults if each.path == fault.path]
                assert not any(FIX.search(f"; {each.fix}") for each in left), (wrong, fault, left)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("workers: {cpu: {count: yes}}", "a whole number from 0 to 100000; write `count: 1`"),
        ("workers: {cpu: {count: 100000000}}", "from 0 to 100000; write a number in that range"),
        ("workers: {cpu: {threads: '4'}}", "from 1 to 1024; write `threads: 4`"),
        ("workers: {cpu: {}}\nsecurity: {tls: off}", "true or false; write `tls: false`"),
        ("workers: {Cpu: {}}", "write a name such as cpu"),
        ("workers: {cpu: {}}\nenv: {N: 1}", "text on one line, or `{file: PATH}`; write `N: '1'`"),
        ("workers: {cpu: {<<: 3}}", "an alias of a mapping, such as `<<: *base`"),
    ],
)
def test_the_allowed_half_is_that_of_the_key(line: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        loads(f"name: lab\nplatform: local\n{line}\n", "lab.yaml")
    assert message in str(caught.value)


def test_a_missing_platform_is_one_fault() -> None:
    with pytest.raises(SpecError) as caught:
        loads("name: lab\nworkers: {cpu: {}}\n", "lab.yaml")
    assert str(caught.value) == (
        "lab.yaml:1: platform: found nothing; allowed: local, hosts, kubernetes, ec2, fargate;"
        " add `platform: local`"
    )
