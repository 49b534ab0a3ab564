"""Plain words: read as every reader of YAML reads them, or refused."""

from __future__ import annotations

import math

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from perennial.spec.scalars import AmbiguousError, is_plain, resolve
from tests.examples import examples

NUMERIC = st.text("0123456789+-_.:eExXobTZ ", max_size=12)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        *(("", None), ("~", None), ("null", None), ("true", True), ("FALSE", False)),
        *(("0", 0), ("-12", -12), ("+5", 5), ("0x1F", 31), ("0.5", 0.5), ("1.0e+3", 1000.0)),
        *((".5", 0.5), ("-.inf", -math.inf), ("lab", "lab"), ("8 GiB", "8 GiB"), ("y", "y")),
        *(("40000:40099", "40000:40099"), ("1.2.3", "1.2.3"), ("2030-01", "2030-01")),
    ],
)
def test_agreed(word: str, value: object) -> None:
    assert resolve(word) == value
    assert type(resolve(word)) is type(value)


@pytest.mark.parametrize(
    "word",
    [
        *("no", "Yes", "ON", "off", "007", "08", "010", "1_000", "0b1", "0o17", "+0x1F", "-.5"),
        *("1e3", "1e-3", "1.5e3", "12:30", "1:2:3.5", "2030-01-31", "2030-1-31 12:30:00"),
        *("9" * 30, "9" * 300),
    ],
)
def test_refused(word: str) -> None:
    with pytest.raises(AmbiguousError):
        resolve(word)
    assert not is_plain(word)


@settings(max_examples=examples(500), deadline=None)
@given(st.one_of(NUMERIC, st.text(max_size=8)))
@example("<<")
@example("*")
@example("0_")
@example("0_.")
@example("1_0.5e+3")
@example("-0x1")
@example("1:")
def test_python_reads_the_same(word: str) -> None:
    """What is not refused means to PyYAML, which Dask uses, the same as here."""
    loader = yaml.SafeLoader("")
    tag = loader.resolve(yaml.ScalarNode, word, (True, False))
    try:
        value = resolve(word)
    except AmbiguousError:
        return
    # <<, =, and what begins an alias, an anchor or a tag: never a plain word in a document.
    special = {f"tag:yaml.org,2002:{kind}" for kind in ("merge", "value", "yaml")}
    expected = word if tag in special else loader.construct_object(yaml.ScalarNode(tag, word))
    assert type(value) is type(expected)
    assert value == expected or str(value) == str(expected) == "nan"
