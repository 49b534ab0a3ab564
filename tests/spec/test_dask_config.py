"""Dask's own configuration in a cluster file."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import dask.config
import distributed  # noqa: F401 - registers its defaults
import pytest
from pydantic_core import PydanticCustomError

from perennial.spec import dask_config


@pytest.mark.parametrize(
    "config",
    [
        {"distributed.worker.memory.target": 0.5},
        {"distributed": {"worker": {"memory": {"target": False}}}},
        {"distributed.worker": {"memory.target": None}, "distributed.worker.preload": "a"},
        {"distributed.worker.preload": ["a", "b"], "mine": {"a": [1, {"b": [None]}]}},
        {"distributed.comm.ucx": {}, "a.b": 1, "a": {}},
    ],
)
def test_sound(config: dict[str, Any]) -> None:
    assert dask_config.check(config) == config


@pytest.mark.parametrize(
    ("config", "places"),
    [
        ({"a": {1: 2}}, [("a", "1")]),
        ({"a": (1,), "b": [object()]}, [("a",), ("b", 0)]),
        ({"a": float("inf"), "b": 2**70}, [("a",), ("b",)]),
        ({"a.b": 1, "a": {"b": 1}}, [("a", "b")]),
        ({"a-b": 1, "a_b": 1}, [("a_b",)]),
        ({"a": 1, "a.b.c": 1}, [("a.b.c",)]),
        ({"distributed": None, "array": []}, [("distributed",), ("array",)]),
        ({"distributed.nanny.preload": {"x": 1}}, []),
        ({".a": 1, "b.": 1, "": 1}, [(".a",), ("b.",), ("",)]),
        # What weakens TLS.
        (
            {"distributed.comm.tls.min-version": 1.0},
            [("distributed.comm.tls.min-version",)],
        ),
        (
            {"distributed": {"comm": {"tls": {"min_version": "1.2", "max-version": 1.2}}}},
            [
                ("distributed", "comm", "tls", "min_version"),
                ("distributed", "comm", "tls", "max-version"),
            ],
        ),
        (
            {"distributed.comm.tls": {"ciphers": "ALL", "min-version": 1.3, "max-version": None}},
            [("distributed.comm.tls", "ciphers")],
        ),
    ],
)
def test_unsound(config: dict[Any, Any], places: list[tuple[str | int, ...]]) -> None:
    if not places:
        assert dask_config.check(config) == config
        return
    with pytest.raises(PydanticCustomError) as caught:
        dask_config.check(config)
    context = caught.value.context
    assert context is not None
    assert [refusal.at for refusal in context["refusals"]] == places


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("distributed.worker.memory.taget", "distributed.worker.memory.target"),
        ("distributed.worker.memroy.target", "distributed.worker.memory.target"),
        ("distribued.scheduler.work-stealing", "distributed.scheduler.work-stealing"),
        ("scheduler.work_stealing", "distributed.scheduler.work-stealing"),
        ("worker.memory.target", "distributed.worker.memory.target"),
        ("distributed.scheduler.work_stealing", None),
        ("distributed.worker.resources.GPU", None),
        ("jobqueue.slurm.cores", None),
        ("distributed.worker.my-own", None),
        ("mine", None),
    ],
)
def test_mistyped(key: str, meant: str | None) -> None:
    found = list(dask_config.mistyped({key: 1}))
    assert found == ([((key,), meant)] if meant else [])


def test_the_defaults_are_those_of_dask() -> None:
    def missing(ours: Any, theirs: Any, path: str = "") -> list[str]:
        if not isinstance(ours, dict):
            return []
        return [
            gap
            for key, value in ours.items()
            for gap in (missing(value, theirs[key], f"{path}.{key}") if key in theirs else [path])
        ]

    defaults = dask.config.merge(*dask.config.defaults)
    assert dask_config.defaults()["distributed"]["worker"]["memory"]["target"]
    assert missing(dask_config.defaults(), defaults) == []


def test_distributed_is_not_imported() -> None:
    code = (
        "import sys; from perennial.spec import loads\n"
        "loads('name: lab\\nplatform: local\\nworkers: {cpu: {}}\\ndask: {distributed.a: 1}')\n"
        "assert 'distributed' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
