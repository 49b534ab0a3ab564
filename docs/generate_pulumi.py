"""Write the typed arguments of the Pulumi components from the models of the cluster file.

Run `python docs/generate_pulumi.py` after a change of the models; a test compares.
"""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from perennial.spec import json_schema as schemas
from perennial.stacks.components import COMPONENTS
from perennial.stacks.inputs import is_structure

FOLDER = Path(__file__).parents[1] / "stacks" / "args"

Node = dict[str, Any]
#: The head of a class, its base, and the text of each key.
Class = tuple[str, str, dict[str, str]]

_HEAD = '''"""Typed arguments of {}; their keys are those of a cluster file.

Written by `docs/generate_pulumi.py` from the models: do not edit.
"""

from __future__ import annotations

'''
#: Words of a module, and where they come from.
_IMPORTS = {
    "from collections.abc import {}": ("Mapping", "Sequence"),
    "from dataclasses import {}": ("dataclass", "field"),
    "from typing import {}": ("Any", "Literal"),
}
#: Keys that a class must have for others to derive from it.
FEW = 4
_SCALARS = {"string": "str", "integer": "int", "number": "float", "boolean": "bool"}


def render() -> dict[str, str]:
    """Write the modules: what several components have, what each has, and the names of all."""
    common: dict[str, Class] = {}
    own: dict[str, dict[str, Class]] = {}
    for platform in COMPONENTS.values():
        root = schemas.shared((platform,))
        mine = {platform: root["properties"][platform]}
        shared = {
            key: node
            for key, node in root["properties"].items()
            if key not in mine and key != "platform"
        }
        for name, path, node in _inner(root, {"properties": shared}, ()):
            common.setdefault(name, _class(path, node))
        common.setdefault("Cluster", _class((), {**root, "properties": shared}))
        found = own.setdefault(platform, {})
        for name, path, node in _inner(root, {"properties": mine}, ()):
            found.setdefault(name, _class(path, node))
        name = f"{platform.capitalize()}Cluster"
        found[name] = _class((), {**root, "properties": mine}, "Cluster")
    for name in _shared(own):
        common[name], *_ = [classes.pop(name) for classes in own.values() if name in classes]
    modules = {"common": common, **own}
    files = {
        f"{name}.py": _module("several components" if name == "common" else name, classes, common)
        for name, classes in modules.items()
    }
    return {**files, "__init__.py": _names(modules)}


def _shared(own: dict[str, dict[str, Class]]) -> list[str]:
    """Name what more than one platform has; it is the same there."""
    every = Counter(name for classes in own.values() for name in classes)
    shared = [name for name, count in every.items() if count > 1]
    for name in shared:
        one, *others = [classes[name] for classes in own.values() if name in classes]
        if any(other != one for other in others):
            raise ValueError(f"{name}: platforms have different models of this name")
    return shared


def _module(of: str, classes: dict[str, Class], common: dict[str, Class]) -> str:
    """Write a module with what it imports."""
    bases = {name: each[1] or _base(name, classes) for name, each in classes.items()}
    # What others derive from is there before them.
    order = sorted(classes, key=lambda name: name not in bases.values())
    text = "\n\n".join(_text(name, bases[name], classes) for name in order)
    used = set(re.findall(r"\w+", text))
    lines = [
        line.format(", ".join(word for word in words if word in used))
        for line, words in _IMPORTS.items()
        if used.intersection(words)
    ]
    lines += ["", "import pulumi", ""] if "pulumi" in used else [""]
    needed = sorted(f"{name}Args" for name in common.keys() - classes if f"{name}Args" in used)
    lines += [f"from .common import {', '.join(needed)}"] if needed else []
    return _formatted(_HEAD.format(of) + "\n".join(lines) + "\n\n" + text)


def _base(name: str, classes: dict[str, Class]) -> str:
    """Find the class all of whose keys another one has as well: it derives from that.

    They are the same there, or required.
    """
    keys = classes[name][2]
    found = [
        other
        for other, (*_, fewer) in classes.items()
        if FEW <= len(fewer) < len(keys)
        and all(key in keys and (keys[key] == fewer[key] or _required(keys[key])) for key in fewer)
    ]
    return max(found, key=lambda other: len(classes[other][2]), default="")


def _text(name: str, base: str, classes: dict[str, Class]) -> str:
    """Write a class, without the keys of the one from which it derives."""
    summary, _, keys = classes[name]
    inherited = classes[base][2] if base in classes else {}
    head = f"class {name}Args({base}Args):" if base else f"class {name}Args:"
    own = [
        # Or the default of the other class would be its own.
        text.replace("\n", " = field()\n", 1) if key in inherited else text
        for key, text in keys.items()
        if text != inherited.get(key)
    ]
    return "\n".join(filter(None, ["@dataclass(kw_only=True)", head, summary, *own])) + "\n"


def _required(text: str) -> bool:
    """Whether a key has no default."""
    return " = " not in text.partition("\n")[0]


def _names(modules: dict[str, dict[str, Class]]) -> str:
    """Write the module in which a program finds all of them."""
    lines = [
        f"from .{module} import {', '.join(sorted(f'{name}Args' for name in classes))}"
        for module, classes in sorted(modules.items())
    ]
    every = sorted(f"{name}Args" for classes in modules.values() for name in classes)
    listed = f"__all__ = {every}"
    return _formatted(_HEAD.format("the components") + "\n".join(lines) + "\n\n" + listed)


def _formatted(text: str) -> str:
    command = ["ruff", "format", "--stdin-filename", "args.py", "-"]
    config = ["--config", str(FOLDER.parents[1] / "pyproject.toml")]
    ruff = [sys.executable, "-m", *command, *config]
    return subprocess.run(ruff, input=text, capture_output=True, text=True, check=True).stdout


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


def _class(path: tuple[Any, ...], node: Node, base: str = "") -> Class:
    summary, ended, _ = node.get("description", "").partition(". ")
    keys = {}
    for key, value in node["properties"].items():
        doc = _doc(str(value.get("description", "")) + _usual(value))
        keys[key] = "\n".join(filter(None, [_field(key, value, (*path, key)), doc]))
    return _doc(summary + ended.strip()), base, keys


def _usual(value: Node) -> str:
    usual = value.get("default")
    return "" if usual in (None, {}, []) else f" Default: `{usual}`."


def _field(key: str, value: Node, path: tuple[Any, ...]) -> str:
    """Write one key; `from` is no name in Python."""
    kind, name = _type(value, path), f"{key}_" if key == "from" else key
    if "default" not in value:
        return f"    {name}: {kind}"
    if schemas.absence(value) and value.get("default") == {}:  # `null` is not the default here
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
        if "const" in each:
            kinds[f"Literal[{each['const']!r}]"] = None
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
    for name, text in render().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
