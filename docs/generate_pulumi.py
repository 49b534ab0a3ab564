"""Write the typed arguments of the Pulumi components from the models of the cluster file.

Run `python docs/generate_pulumi.py` after a change of the models; a test compares.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from perennial.spec import json_schema as schemas
from perennial.stacks.components import COMPONENTS
from perennial.stacks.inputs import is_structure

FILE = Path(__file__).parents[1] / "stacks" / "args.py"

Node = dict[str, Any]

_HEAD = '''"""Typed arguments of the components; their keys are those of a cluster file.

Written by `docs/generate_pulumi.py` from the models: do not edit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pulumi
'''
_SCALARS = {"string": "str", "integer": "int", "number": "float", "boolean": "bool"}


def render() -> str:
    """Write the module."""
    done: dict[str, str] = {}
    for platform in (each.platform for each in COMPONENTS.values()):
        root = schemas.shared((platform,))
        own = {platform: root["properties"][platform]}
        common = {
            key: node
            for key, node in root["properties"].items()
            if key not in own and key != "platform"
        }
        classes = [
            *_inner(root, {"properties": common}, ()),
            ("Cluster", (), {**root, "properties": common}),
            *_inner(root, {"properties": own}, ()),
        ]
        for name, path, node in classes:
            done.setdefault(name, _class(name, path, node))
        name = f"{platform.capitalize()}Cluster"
        done[name] = _class(name, (), {**root, "properties": own}, "Cluster")
    found = "\n\n".join([_HEAD, *done.values()])
    command = ["ruff", "format", "--stdin-filename", FILE.name, "-"]
    ruff = [sys.executable, "-m", *command, "--config", str(FILE.parents[1] / "pyproject.toml")]
    return subprocess.run(ruff, input=found, capture_output=True, text=True, check=True).stdout


def _inner(root: Node, node: Node, path: tuple[Any, ...]) -> Iterator[tuple[str, Any, Node]]:
    """Walk over the mappings that have a class, the inner ones first."""
    for key, value in node.get("properties", {}).items():
        yield from _under(root, value, (*path, key))


def _under(root: Node, value: Node, path: tuple[Any, ...]) -> Iterator[tuple[str, Any, Node]]:
    for each in value.get("anyOf", [value]):
        if "$ref" in each:
            name = each["$ref"].rpartition("/")[2]
            node = root["$defs"][name]
            yield from _inner(root, node, path)
            yield name, path, node
        elif isinstance(each.get("additionalProperties"), dict):
            yield from _under(root, each["additionalProperties"], (*path, "name"))
        elif isinstance(each.get("items"), dict):
            yield from _under(root, each["items"], (*path, 0))


def _class(name: str, path: tuple[Any, ...], node: Node, base: str = "") -> str:
    head = f"class {name}Args({base}Args):" if base else f"class {name}Args:"
    lines = ["@dataclass(kw_only=True)", head, _doc(node.get("description", ""))]
    for key, value in node["properties"].items():
        lines.append(_field(key, value, (*path, key)))
        lines.append(_doc(str(value.get("description", "")) + _usual(value)))
    return "\n".join(filter(None, lines)) + "\n"


def _usual(value: Node) -> str:
    usual = value.get("default")
    return "" if usual in (None, {}, []) else f" Default: `{usual}`."


def _field(key: str, value: Node, path: tuple[Any, ...]) -> str:
    """Write one key; `from` is no name in Python."""
    kind, name = _type(value, path), f"{key}_" if key == "from" else key
    if "default" not in value:
        return f"    {name}: {kind}"
    if schemas.nullable(value) and value.get("default") == {}:  # `null` is not the default here
        inner = next(each for each in value["anyOf"] if "$ref" in each)["$ref"].rpartition("/")[2]
        return f"    {name}: {kind} | None = field(default_factory={inner}Args)"
    return f"    {name}: {kind} | None = None"


def _type(node: Node, path: tuple[Any, ...]) -> str:
    kind = _plain(node, path)
    return kind if is_structure(path) or _is_tree(node) else f"pulumi.Input[{kind}]"


def _is_tree(node: Node) -> bool:
    """Whether there are keys below it, so that its values are Inputs."""
    return any(
        "$ref" in each or each.get("type") == "object" or "items" in each
        for each in node.get("anyOf", [node])
    )


def _plain(node: Node, path: tuple[Any, ...]) -> str:
    choices = [each for each in node.get("anyOf", [node]) if each.get("type") != "null"]
    kinds: dict[str, None] = {}
    for each in choices:
        if "$ref" in each:
            kinds[f"{each['$ref'].rpartition('/')[2]}Args | Mapping[str, Any]"] = None
            continue
        if "enum" in each:
            kinds[f"Literal[{', '.join(map(repr, each['enum']))}]"] = None
            continue
        listed = each.get("type", "string")
        for kind in listed if isinstance(listed, list) else [listed]:
            kinds[_of(kind, each, path)] = None
    return " | ".join(kinds)


def _of(kind: str, node: Node, path: tuple[Any, ...]) -> str:
    if kind == "array":
        return f"Sequence[{_type(node['items'], (*path, 0))}]"
    if kind == "object":
        inner = node.get("additionalProperties")
        items = _type(inner, (*path, "name")) if isinstance(inner, dict) else "pulumi.Input[Any]"
        return f"Mapping[str, {items}]"
    return _SCALARS[kind]


def _doc(text: str) -> str:
    lines = textwrap.wrap(" ".join(text.split()).replace("\\", "\\\\"), 90)
    if not lines:
        return ""
    if len(lines) == 1:
        return f'    """{lines[0]}"""'
    if lines[-1].endswith('"'):
        lines.append("")
    return '    """' + "\n    ".join(lines) + '"""'


if __name__ == "__main__":
    FILE.write_text(render(), encoding="utf-8")
