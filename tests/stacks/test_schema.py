"""The package's schema: every key of a cluster file, in Pulumi's words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from perennial.spec.json_schema import shared
from perennial.stacks.base import OUTPUTS
from perennial.stacks.components import COMPONENTS
from perennial.stacks.provider.main import _KINDS
from perennial.stacks.provider.schema import schema

SCHEMA = json.loads(schema())
KINDS = {"string", "integer", "number", "boolean", "array", "object"}


def types(node: Any) -> Iterator[dict[str, Any]]:
    """Every mapping that says a type."""
    if isinstance(node, dict):
        if "$ref" in node or isinstance(node.get("type"), str) or "oneOf" in node:
            yield node
        for inner in node.values():
            yield from types(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from types(inner)


def test_every_type_is_one_that_pulumi_knows() -> None:
    for node in types([SCHEMA["types"], SCHEMA["resources"]]):
        if "$ref" in node:
            name = node["$ref"].removeprefix("#/types/")
            assert name in SCHEMA["types"] or name == "pulumi.json#/Any"
        elif "oneOf" in node:
            assert len(node["oneOf"]) > 1
        else:
            assert node["type"] in KINDS
            assert node["type"] != "array" or node["items"]


def test_all_required_keys_are_there() -> None:
    for node in SCHEMA["types"].values():
        assert set(node["required"]) <= set(node["properties"])
    for node in SCHEMA["resources"].values():
        assert set(node["requiredInputs"]) <= set(node["inputProperties"])
        assert set(node["required"]) <= set(node["properties"])


def test_components_have_the_keys_of_a_cluster_file() -> None:
    for token, platform in COMPONENTS.items():
        node = SCHEMA["resources"][token]
        keys = shared((platform,))["properties"].keys() - {"platform"}
        assert node["isComponent"]
        assert node["inputProperties"].keys() == keys | {"force"}
        assert node["properties"].keys() == set(OUTPUTS)
        assert {"name", "workers"} <= set(node["requiredInputs"])


def test_resources_have_the_outputs_of_their_kinds() -> None:
    for kind in _KINDS:
        node = SCHEMA["resources"][kind.type]
        outputs = node["properties"].keys() - node["inputProperties"].keys()
        assert outputs == set(kind.computed)
        secret = {key for key in outputs if node["properties"][key].get("secret")}
        assert secret == set(kind.secrets)


def test_private_keys_are_secrets_and_nothing_else_is() -> None:
    secret = {
        key
        for node in SCHEMA["types"].values()
        for key, value in node["properties"].items()
        if value.get("secret")
    }
    assert secret == {"private_key"}
