"""Texts made to exhaust a reader: each is refused or read within moments."""

from __future__ import annotations

import time

import pytest

from perennial.errors import SpecError
from perennial.spec import loads, tree

MEBI = 2**20
HEAD = "name: lab\nplatform: local\nworkers: {cpu: {}}\n"


def laughs(levels: int, pattern: str = "[{}]", first: str = "[ha]") -> str:
    """Anchors of which each holds the one before nine times."""
    lines = [f"a0: &a0 {first}"]
    for level in range(1, levels):
        nine = ", ".join([f"*a{level - 1}"] * 9)
        lines.append(f"a{level}: &a{level} {pattern.format(nine)}")
    return "\n".join(lines)


HOSTILE = {
    "laughs": laughs(100),
    "laughing merges": laughs(100, "{{<<: [{}]}}", "{x: 1}"),
    "chain of anchors": "a0: &a0 1\n"
    + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 99)),
    "brackets": "[" * MEBI,
    "braces": "{" * MEBI,
    "nested keys": "{a: " * (MEBI // 4),
    "nested dashes": "- " * (MEBI // 2),
    "nested questions": "? " * (MEBI // 2),
    "many keys": "".join(f"key-{n}: 1\n" for n in range(80_000)),
    "many items": "a: [" + "b, " * (MEBI // 3 - 9) + "]",
    "many anchors": "a: [" + "&a b, " * (MEBI // 6 - 9) + "]",
    "many documents": "---\n" * (MEBI // 4),
    "many tag names": "".join(f"%TAG !a{n}! x\n" for n in range(60_000)),
    "many merges": "a: &a {x: 1}\nb: {" + "<<: *a, " * 99_999 + "}",
    "long key": "a" * (MEBI - 9) + ": 1",
    "long number": "a: " + "9" * (MEBI - 9),
    "long exponent": "a: 1" + "0" * (MEBI - 9) + "e",
    "long time": "a: " + "1:1" * (MEBI // 3 - 9),
    "underscores": "a: 1" + "_" * (MEBI - 9),
    "long size": HEAD + "scheduler: {memory: '" + "9" * (MEBI - 999) + " GiB'}",
    "long duration": HEAD + "scheduler: {watchdog: '" + "9" * (MEBI - 999) + " s'}",
    "long spaces": HEAD + "scheduler: {memory: '1" + " " * (MEBI - 999) + "x'}",
    "long platform": "platform: " + "local" * (MEBI // 5 - 9),
    "commas": "[" + "," * (MEBI - 9),
    "colons": ":" * (MEBI - 9),
    "exclamation marks": "!" * (MEBI - 9),
    "quotes": '"' * (MEBI - 9),
    "escapes": 'a: "' + "\\x41" * (MEBI // 4 - 9),
    "tabs": "\t" * (MEBI - 9),
    "unclosed": "a: [" + "\nb: {" * 99_999,
    "too long": "a" * (MEBI + 1),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile(name: str) -> None:
    start = time.process_time()
    with pytest.raises(SpecError) as caught:
        loads(HOSTILE[name], "lab.yaml")
    assert time.process_time() - start < 10  # 0.3 s on a quiet machine
    for line in str(caught.value).split("\n"):
        assert len(line) < 1000
        assert line.startswith("lab.yaml")


def test_laughs_are_counted_not_built() -> None:
    with pytest.raises(tree.BrokenError) as caught:
        tree.read_tree(laughs(100))
    [fault] = caught.value.faults
    assert fault.line == 6
    assert fault.found == "more than 50,000 values, with anchors expanded"


def test_the_bounds_leave_room() -> None:
    """A hundred groups with every key, and configuration as deep as anybody's."""
    group = "count: 1, threads: 2, memory: 4 GiB, drain: 1 min, resources: {GPU: 1, CPU: 2}"
    groups = "".join(f"  g-{n}x: {{{group}}}\n" for n in range(100))
    deep = "{a: " * 40 + "1" + "}" * 40
    spec = loads(f"name: lab\nplatform: local\ndask: {deep}\nworkers:\n{groups}")
    assert len(spec.workers) == 100


@pytest.mark.parametrize("end", ["\r", "\r\n", "\x85", "\u2028"])
def test_a_line_ends_where_it_ends_for_the_parser(end: str) -> None:
    with pytest.raises(SpecError) as caught:
        loads(f"name: lab{end}platform: @local\nworkers: {{cpu: {{}}}}\n", "lab.yaml")
    assert str(caught.value).startswith("lab.yaml:2: ")
    assert "found @ in `platform: @local`" in str(caught.value)
