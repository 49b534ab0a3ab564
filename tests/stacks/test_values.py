"""Values between the engine's messages and Python."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pulumi.runtime.rpc import UNKNOWN

from perennial.stacks.provider.values import (
    differences,
    is_known,
    keep_nulls,
    message,
    plain,
)

KEYS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8)
LEAVES = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | KEYS
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4)
)
TREES = st.dictionaries(KEYS, VALUES, max_size=4)


@given(TREES)
def test_what_the_engine_keeps_comes_back(tree: dict[str, Any]) -> None:
    assert plain(message(keep_nulls(tree))) == tree
    assert plain(message(keep_nulls(tree), secrets=tuple(tree))) == tree
    assert not list(differences(tree, tree))


@given(TREES, TREES)
def test_differences_are_found_both_ways(one: dict[str, Any], other: dict[str, Any]) -> None:
    forth, back = dict(differences(one, other)), dict(differences(other, one))
    assert forth.keys() == back.keys()
    assert bool(forth) == (one != other)


def test_whole_numbers_are_whole() -> None:
    found = plain(message({"port": 8786, "ratio": 0.5, "retries": 5.0}))
    assert (found["port"], found["ratio"], found["retries"]) == (8786, 0.5, 5)
    assert type(found["port"]) is type(found["retries"]) is int


@pytest.mark.parametrize(
    ("old", "new", "paths"),
    [
        ({"a": {"b": 1}}, {"a": {"b": 2}}, ["a.b"]),
        ({"a": [1, 2]}, {"a": [1, 3, 4]}, ["a[1]", "a[2]"]),
        ({"dask": {"x.y": 1}}, {"dask": {}}, ['dask["x.y"]']),
        ({"a": {'"': 1}}, {"a": {'"': 2}}, ['a["\\""]']),
        ({"a": 1}, {"a": {"b": 1}}, ["a"]),
    ],
)
def test_paths(old: dict[str, Any], new: dict[str, Any], paths: list[str]) -> None:
    assert [path for path, _ in differences(old, new)] == paths


def test_unknown_values_are_found_wherever_they_are() -> None:
    assert is_known({"a": [1, {"b": "x"}]})
    assert not is_known({"a": [1, {"b": UNKNOWN}]})
