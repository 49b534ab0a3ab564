"""Sizes, durations and ports mean what Dask makes of them, and survive being written."""

from __future__ import annotations

import re

import dask.utils
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from perennial.spec import units
from tests.examples import examples


@pytest.mark.parametrize(
    ("text", "size"),
    [
        *(("8 GiB", 8 * 2**30), ("8GiB", 8 * 2**30), ("500 MB", 500_000_000), ("8g", 8 * 10**9)),
        *(("1.5 GiB", 3 * 2**29), ("64Mi", 2**26), (" 2 TB ", 2 * 10**12), (2**20, 2**20)),
    ],
)
def test_sizes(text: str | int, size: int) -> None:
    assert units.parse_size(text) == size


@pytest.mark.parametrize(
    "value",
    [
        *("8", "8 GiBs", "GiB", "-8 GiB", "8 8 GiB", "1e3 MB", "", "8 GiB\n8", "٨ GiB", "1 kB"),
        *(8, 0, -1, True, None, 1.5, [], "9" * 400 + " GiB", "8 EiB", 2**63, 10**400),
    ],
)
def test_no_sizes(value: object) -> None:
    with pytest.raises(PydanticCustomError, match="allowed: a size"):
        units.parse_size(value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("5 min", 300), ("5min", 300), ("2 mins", 120), ("60 s", 60), ("1.5 h", 5400)),
        *(("1 d", 86400), ("250 ms", 0.25), ("2 weeks", 14 * 86400), (30, 30), (0.5, 0.5), (0, 0)),
    ],
)
def test_durations(text: str | float, seconds: float) -> None:
    assert units.parse_duration(text) == seconds


@pytest.mark.parametrize(
    "value",
    [
        *("5", "5 parsecs", "min", "-5 s", "5 Min", "", "1e3 s", "20 years", "9999 weeks"),
        *(-1, True, None, [], float("nan"), float("inf"), 10**400),
    ],
)
def test_no_durations(value: object) -> None:
    with pytest.raises(PydanticCustomError, match="allowed: a duration"):
        units.parse_duration(value)


def test_every_unit_of_dask() -> None:
    for unit in filter(None, dask.utils.byte_sizes):
        text = f"{5_000_000 if unit[0] in 'bk' else 5} {unit}"
        assert units.parse_size(text) == dask.utils.parse_bytes(text)
    for unit in filter(str.islower, dask.utils.timedelta_sizes):
        assert units.parse_duration(f"9 {unit}") == dask.utils.parse_timedelta(f"9 {unit}")


@settings(max_examples=examples(300), deadline=None)
@given(st.one_of(st.integers(2**20, 2**63 - 1), st.integers(1, 2**33).map(lambda n: n * 2**20)))
def test_a_size_survives(size: int) -> None:
    written = units.format_size(size)
    assert units.parse_size(written) == size
    assert isinstance(written, int) or re.fullmatch(r"\d+ [kKMGTP]i?B", written)


@settings(max_examples=examples(300), deadline=None)
@given(st.one_of(st.floats(0, units.LONGEST_DURATION), st.integers(0, 10**8).map(float)))
def test_a_duration_survives(seconds: float) -> None:
    assert units.parse_duration(units.format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("value", "ports"),
    [("40000:40099", (40000, 40099)), (" 1 : 2 ", (1, 2)), (8786, (8786, 8786)), ([1, 2], (1, 2))],
)
def test_ports(value: object, ports: tuple[int, int]) -> None:
    assert units.parse_ports(value) == ports
    assert units.parse_ports(units.format_ports(ports)) == ports


@pytest.mark.parametrize(
    "value",
    [
        *("1:0", "0:1", "1:65536", "1", "a:b", "1:2:3", "-5:5", True, 0, 70000, -5, 1.5, None),
        *([True, 2], [1], [1, 2, 3], ["1", "2"], {}),
    ],
)
def test_no_ports(value: object) -> None:
    with pytest.raises(PydanticCustomError, match=r"allowed: (a port|ports) "):
        units.parse_ports(value)


def test_about() -> None:
    assert [units.about(size) for size in (2**30, 25_200_000_000, 2**29)] == [
        "1 GiB", "23.5 GiB", "512 MiB",
    ]  # fmt: skip
