"""Clusters in a stack's outputs, whatever a program calls them."""

from __future__ import annotations

from typing import Any

import pytest

from perennial.errors import PerennialError
from perennial.spec import loads
from perennial.stack_outputs import ClusterOutputs, clusters, describe

FILE = "{name: NAME, platform: local, workers: {zeta: {count: 1}, alpha: {count: 2}}}"


def told(name: str, address: str = "tcp://h:1") -> dict[str, Any]:
    return describe(FILE.replace("NAME", name), {"cluster": name, "scheduler_address": address})


@pytest.mark.parametrize(
    "outputs",
    [
        {"cluster": told("lab")},
        {"x": 1, "y": {"cluster": told("lab"), "urn": "u", "fleets": {"cpu": {}}}},
        {"z": [None, "text", [told("lab")]], "again": told("lab")},
    ],
)
def test_one_is_found_wherever_it_stands(outputs: dict[str, Any]) -> None:
    found = clusters(outputs, "dev")
    spec = loads(FILE.replace("NAME", "lab"))
    assert found == {
        "lab": ClusterOutputs(spec, {"cluster": "lab", "scheduler_address": "tcp://h:1"})
    }
    assert list(found["lab"].spec.workers) == ["zeta", "alpha"]
    assert "tcp" not in repr(found), "what is told may be secret"


def test_other_outputs_are_none() -> None:
    outputs = {"connection": told("lab")["connection"], "format": "x", "list": [{"format": None}]}
    assert clusters(outputs, "dev") == {}


def test_two_of_one_name_are_refused() -> None:
    with pytest.raises(PerennialError, match=r"^dev: found two clusters named lab; give one "):
        clusters({"a": told("lab"), "b": told("lab", "tcp://h:2")}, "dev")


def test_another_version_is_said() -> None:
    with pytest.raises(PerennialError, match="found a cluster of version 2, this perennial reads"):
        clusters({"a": {**told("lab"), "version": 2}}, "dev")
