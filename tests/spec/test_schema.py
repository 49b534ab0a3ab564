"""The JSON Schema: a second implementation agrees with it, and so do the models."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from perennial.errors import SpecError
from perennial.registry import PLATFORMS
from perennial.spec import loads, schema
from perennial.spec.json_schema import plain
from perennial.spec.models import RESERVED_NAMES
from perennial.spec.tree import read_tree
from tests.spec.validating import fresh, validator

ROOT = Path(__file__).parents[2]
GOOD = "name: lab\nplatform: local\nworkers: {cpu: {}}\n"
FILES = [*(ROOT / "examples").glob("*.yaml"), Path(__file__).parent / "cases" / "everything.yaml"]


def test_it_is_a_schema() -> None:
    validator().check_schema(schema())
    assert schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert json.loads(json.dumps(schema())) == schema()


def objects(node: Any) -> list[dict[str, Any]]:
    if isinstance(node, dict):
        return [node, *(found for value in node.values() for found in objects(value))]
    return [found for value in node for found in objects(value)] if isinstance(node, list) else []


def mappings() -> list[dict[str, Any]]:
    """What a person writes as a mapping with known keys; not the rules for platforms."""
    whole = {key: value for key, value in schema().items() if key != "allOf"}
    return [node for node in objects(whole) if isinstance(node.get("properties"), dict)]


def test_every_mapping_is_closed_and_every_key_described() -> None:
    found = mappings()
    assert len(found) == 37
    for node in found:
        assert node["additionalProperties"] is False
        for key, value in node["properties"].items():
            assert plain(schema(), value).get("description"), key
            of_platform = key in PLATFORMS
            assert key in node.get("required", ()) or "default" in value or of_platform, key


def test_defaults_are_as_people_write_them() -> None:
    group = schema()["$defs"]["WorkerGroup"]["properties"]
    assert group["memory"]["default"] == "4 GiB"
    assert group["drain"]["default"] == "1 min"
    assert schema()["properties"]["local"]["default"] == {}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_files(file: Path) -> None:
    validator().validate(read_tree(file.read_text()).data())


@pytest.mark.parametrize(
    "change",
    [
        *("name: Lab", "name: 3", "name: ''", "name: a-", f"name: {'a' * 41}"),
        *("platform: lokal", "platform: null", "nam: lab", "workers: {}", "workers: []"),
        *(f"workers: {{{name}: {{}}}}" for name in RESERVED_NAMES),
        *("workers: {Cpu: {}}", "workers: {cpu: null}", "workers: {cpu: {thread: 1}}"),
        *("workers: {cpu: {threads: 0}}", "workers: {cpu: {threads: '1'}}"),
        *("workers: {cpu: {memory: 8}}", "workers: {cpu: {memory: 8 parsecs}}"),
        *("workers: {cpu: {drain: -1 s}}", "workers: {cpu: {drain: 5 miles}}"),
        *("workers: {cpu: {ports: 1-2}}", "workers: {cpu: {ports: [1]}}"),
        *("workers: {cpu: {scale: {}}}", "workers: {cpu: {resources: {GPU: 0}}}"),
        *("workers: {cpu: {resources: {a b: 1}}}", "workers: {cpu: {dask: []}}"),
        *("scheduler: {port: 0}", "scheduler: {port: 65536}", "scheduler: null"),
        *("jupyter: {directory: notebooks}", "jupyter: 3", "jupyter: {idle: soon}"),
        *("workers: {cpu: {scale: {max: -1}}}", "workers: {cpu: {scale: {max: 1, cost: 0}}}"),
        *("workers: {cpu: {scale: {max: 1, step_down: 2}}}", "scaler: {interval: often}"),
        *("workers: {cpu: {scale: {max: 1, on_deadline: kill}}}", "scaler: {dry_run: 1}"),
        *(
            f"workers: {{cpu: {{scale: {{max: 1, schedules: [{{min: 0, {keys}}}]}}}}}}"
            for keys in ("from: '08:00'", "from: '8', to: '18:00'", "from: '08:00', to: noon")
        ),
        *("security: {tls: 'yes'}", "environment: {python: python}", "local: {adress: x}"),
    ],
)
def test_both_refuse(change: str) -> None:
    data = read_tree(GOOD).data() | read_tree(change).data()
    assert not validator().is_valid(data)
    with pytest.raises(SpecError):
        loads(json.dumps(data))


def test_options_of_another_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PLATFORMS, "other", PLATFORMS["local"])
    changed = fresh()
    data = read_tree(GOOD).data()
    changed.validate({**data, "local": {}})
    changed.validate({**data, "platform": "other", "other": {}})
    assert not changed.is_valid({**data, "other": {}})
    assert not changed.is_valid({**data, "platform": "other", "local": {}})


def test_reference_page(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location(
        "generate_reference", ROOT / "docs" / "generate_reference.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(tmp_path)
    text = (tmp_path / "cluster-file.md").read_text()
    for key in (
        *(
            "name",
            "workers.NAME.scale.max",
            "scaler.interval",
            "jupyter.directory",
            "local.address",
        ),
        "workers.NAME.scale.schedules[].from",
        *("hosts.machines", "hosts.machines[].roles"),
    ):
        assert f"| `{key}` |" in text
    assert "| `workers.NAME.memory` | a size such as 8 GiB or 500 MB | `4 GiB` | " in text
    # A mapping that stands in several places has a row for each of them.
    walked = [node for _, node in module.mappings(schema())]
    assert {str(node["properties"].keys()) for node in walked} == {
        str(node["properties"].keys()) for node in mappings()
    }
    assert text.count("\n| `") == sum(len(node["properties"]) for node in walked)
