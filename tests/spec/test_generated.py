"""Generated cluster files: a valid one survives, a broken one is refused in plain lines."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from perennial.errors import SpecError
from perennial.spec import ClusterSpec, dump, loads
from perennial.spec.tree import read_tree
from tests.examples import examples
from tests.spec import strategies
from tests.spec.validating import validator

LINE = re.compile(r"lab\.yaml(:[1-9]\d*)?: \S.*: found \S.*; allowed: \S.*; \S.*")
JARGON = re.compile(r"Input should|Extra inputs|_type|forbidden|https?:|pydantic|Traceback|None")

normal = settings(
    max_examples=examples(1000),
    deadline=None,
    print_blob=True,
    phases=[Phase.reuse, Phase.generate, Phase.target, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
soak = settings(normal, max_examples=10_000)


def check_valid(data: Any, text: str) -> None:
    spec = loads(text)
    validator().validate(data)
    shortest = dump(spec)
    assert loads(shortest) == spec
    assert dump(loads(shortest)) == shortest
    validator().validate(read_tree(shortest).data())


def check_broken(text: str) -> None:
    """Only a SpecError may come of it, and what is accepted the schema accepts as well."""
    try:
        spec = loads(text, "lab.yaml")
    except SpecError as error:
        check_message(error)
        return
    assert isinstance(spec, ClusterSpec)
    validator().validate(read_tree(text).data())
    assert loads(dump(spec)) == spec


def check_message(error: SpecError) -> None:
    lines = str(error).split("\n")
    assert error.exit_code == 2
    assert 1 <= len(lines) == len(error.faults)
    for line in lines:
        assert LINE.fullmatch(line), line
        assert line.isprintable(), line
        assert not JARGON.search(re.sub(r"'.*?'|`.*?`", "", line)), line
        assert len(line) < 1500, line


@st.composite
def data_and_text(draw: st.DrawFn, data: Callable[[], st.SearchStrategy[Any]]) -> tuple[Any, str]:
    value = draw(data())
    return value, draw(strategies.written(value))


valid = data_and_text(strategies.valid_data)
broken_values = data_and_text(strategies.broken_data).map(lambda both: both[1])


@normal
@given(valid)
def test_a_valid_spec_survives(both: tuple[Any, str]) -> None:
    check_valid(*both)


@normal
@given(broken_values)
def test_broken_values(text: str) -> None:
    check_broken(text)


@normal
@given(strategies.broken_text())
def test_broken_text(text: str) -> None:
    check_broken(text)


@pytest.mark.soak
@soak
@given(valid)
def test_a_valid_spec_survives_long(both: tuple[Any, str]) -> None:
    check_valid(*both)


@pytest.mark.soak
@soak
@given(broken_values)
def test_broken_values_long(text: str) -> None:
    check_broken(text)


@pytest.mark.soak
@soak
@given(strategies.broken_text())
def test_broken_text_long(text: str) -> None:
    check_broken(text)
