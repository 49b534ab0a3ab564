"""The JSON Schema of the cluster file, for editors, for the reference page and for messages.

It is made from the models. Two things are said that pydantic does not say by itself: which
platform goes with which options, and that a mapping of names takes no other names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from functools import cache
from typing import Any

from perennial.registry import PLATFORMS
from perennial.spec.models import cluster_model

DIALECT = "https://json-schema.org/draft/2020-12/schema"
IDENTIFIER = "urn:dask-perennial:cluster-file"

JsonSchema = dict[str, Any]


def schema() -> JsonSchema:
    """Make the JSON Schema (draft 2020-12) of a cluster file on any platform."""
    return deepcopy(shared(tuple(PLATFORMS)))


@cache
def shared(platforms: tuple[str, ...]) -> JsonSchema:
    """Make the schema once for some platforms; callers must not change it."""
    merged: JsonSchema = {
        "$schema": DIALECT,
        "$id": IDENTIFIER,
        "title": "Cluster file",
        "description": "A standing Dask cluster, described once.",
        "type": "object",
        "required": [],
        "properties": {},
        "additionalProperties": False,
        "$defs": {},
    }
    needed = {}
    for platform in platforms:
        one = _of_platform(platform)
        needed[platform] = platform in one["required"]
        merged["$defs"] |= one["$defs"]
        merged["properties"] |= one["properties"]
        merged["required"] = [key for key in one["required"] if key != platform]
    merged["properties"]["platform"] = {
        **merged["properties"]["platform"],
        "enum": list(platforms),
        "examples": list(platforms),
    }
    if len(platforms) > 1:
        merged["allOf"] = [_only_options_of(platform, needed) for platform in platforms]
    return merged


def find(root: JsonSchema, location: Iterable[str | int]) -> JsonSchema:
    """Look up the part of the schema that holds at a key path; empty where there is none."""
    node = root
    for step in location:
        node = plain(root, node)
        inner = node.get("items") if isinstance(step, int) else None
        inner = inner or node.get("properties", {}).get(step)
        if inner is None and isinstance(node.get("additionalProperties"), dict):
            inner = node["additionalProperties"]
        if inner is None:
            return {}
        node = inner
    return node


def plain(root: JsonSchema, node: JsonSchema) -> JsonSchema:
    """Follow a reference, and leave out ``null`` and the short forms of a mapping."""
    if choices := [choice for choice in node.get("anyOf", []) if choice.get("type") != "null"]:
        node = {**choices[-1], **{key: node[key] for key in node if key != "anyOf"}}
    if "$ref" in node:
        target = root["$defs"][node["$ref"].rpartition("/")[2]]
        node = {**target, **{key: node[key] for key in node if key != "$ref"}}
    return node


def absence(node: JsonSchema) -> str:
    """Return the word that may stand there for nothing, if there is one: ``null`` or ``false``."""
    choices = node.get("anyOf", [])
    if any(choice.get("const") is False for choice in choices):
        return "false"
    return "null" if any(choice.get("type") == "null" for choice in choices) else ""


def describe(node: JsonSchema) -> str:
    """Say in words what may stand somewhere, by a part of the schema after `plain`."""
    if "enum" in node:
        return ", ".join(map(str, node["enum"]))
    kind = node.get("type")
    if kind == "object":
        return _object(node)
    if kind in ("integer", "number"):
        return _number(node)
    if kind == "boolean":
        return "true or false"
    return _list_or_text(node)


def _list_or_text(node: JsonSchema) -> str:
    if node.get("type") == "array":
        return f"a list of {node['title']}"
    if "patternErrorMessage" in node:
        return str(node["patternErrorMessage"]).removeprefix("Allowed: ").removesuffix(".")
    longest = node.get("maxLength")
    return f"text of at most {longest:,} letters" if longest else "text"


def _object(node: JsonSchema) -> str:
    if "properties" in node:
        return f"a mapping with keys among {', '.join(node['properties'])}"
    least, most = node.get("minProperties", 0), node.get("maxProperties")
    return f"a mapping with {least} to {most} names" if most else "a mapping of names to values"


def _number(node: JsonSchema) -> str:
    noun = "a whole number" if node["type"] == "integer" else "a number"
    if "exclusiveMinimum" in node:
        return f"{noun} above {node['exclusiveMinimum']} and below {node['exclusiveMaximum']:,}"
    return f"{noun} from {node['minimum']} to {node['maximum']}"


def _of_platform(platform: str) -> JsonSchema:
    # As it is written, not as it is held: the default of a size is `4 GiB`, not 4294967296.
    one = cluster_model(platform).model_json_schema(mode="serialization")
    options = f"{platform.capitalize()}Options"
    one["$defs"][options] = one["$defs"].pop("Options")
    one["properties"][platform]["$ref"] = f"#/$defs/{options}"
    one["properties"]["platform"].pop("const")
    _tidy(one)
    return one


def _only_options_of(platform: str, needed: Mapping[str, bool]) -> JsonSchema:
    others = {"properties": {other: False for other in needed if other != platform}}
    return {
        "if": {"properties": {"platform": {"const": platform}}, "required": ["platform"]},
        "then": {**others, "required": [platform]} if needed[platform] else others,
    }


def _tidy(node: Any) -> None:
    if isinstance(node, list):
        for item in node:
            _tidy(item)
    if not isinstance(node, dict):
        return
    for value in node.values():
        _tidy(value)
    if isinstance(node.get("description"), str):
        node["description"] = " ".join(node["description"].split())
    if isinstance(node.get("patternProperties"), dict):
        [(pattern, values)] = node.pop("patternProperties").items()
        node["propertyNames"] = {**node.get("propertyNames", {}), "pattern": pattern}
        node["additionalProperties"] = values
    if isinstance(node.get("properties"), dict):
        for key, value in node["properties"].items():
            if key not in node.get("required", ()):
                value.setdefault("default", {})  # pydantic leaves out defaults that are made
