"""Write the reference of the cluster file from its JSON Schema.

Run by `make docs`; the page includes the result, which is not kept in the repository.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from perennial.spec import json_schema as schemas
from perennial.spec.scalars import is_plain

FOLDER = Path(__file__).parent / "reference" / "generated"

Node = dict[str, Any]


def main(output_dir: Path = FOLDER) -> None:
    """Write `cluster-file.md`, where its text has changed.

    Parameters
    ----------
    output_dir : pathlib.Path
        Where to write it.
    """
    text = render(schemas.schema())
    target = output_dir / "cluster-file.md"
    output_dir.mkdir(parents=True, exist_ok=True)
    if not target.exists() or target.read_text(encoding="utf-8") != text:
        target.write_text(text, encoding="utf-8")


def render(root: Node) -> str:
    """Write a section for each mapping of the cluster file, with a table of its keys."""
    parts = []
    for path, node in mappings(root):
        title = f"`{path}`" if path else "The file"
        parts += [f"## {title}", "", cell(node.get("description", "")), ""]
        parts += ["| key | what may stand there | default | meaning |", "|---|---|---|---|"]
        required = node.get("required", [])
        for key, value in node["properties"].items():
            parts.append(row(root, f"{path}.{key}".lstrip("."), value, key in required))
        parts.append("")
    return "\n".join(parts)


def mappings(root: Node, path: str = "", node: Node | None = None) -> Iterator[tuple[str, Node]]:
    """Walk over the mappings whose keys are known, from the top of the file."""
    node = schemas.plain(root, root if node is None else node)
    if "properties" in node:
        yield path, node
        for key, value in node["properties"].items():
            yield from mappings(root, f"{path}.{key}".lstrip("."), value)
    elif isinstance(node.get("additionalProperties"), dict):
        yield from mappings(root, f"{path}.NAME", node["additionalProperties"])
    elif isinstance(node.get("items"), dict):
        yield from mappings(root, f"{path}[]", node["items"])


def row(root: Node, path: str, value: Node, required: bool) -> str:
    """Write one key as a row of a table."""
    node = schemas.plain(root, value)
    absence = schemas.absence(value)
    allowed = kind(node) + (f" or `{absence}`" if absence else "")
    meaning = cell(str(value.get("description") or node.get("description", "")))
    if examples := node.get("examples"):
        meaning += f" Example: `{flow(examples[0])}`."
    # A platform's own options are required on that platform alone.
    needed = required or "default" not in node
    default = "required" if needed else f"`{flow(node['default'])}`"
    return f"| `{path}` | {allowed} | {default} | {meaning} |"


def kind(node: Node) -> str:
    """Say what may stand under a key; a mapping has a section of its own."""
    if node.get("type") != "object":
        return cell(schemas.describe(node))
    if "properties" in node:
        return "a mapping, see below"
    return "a mapping by name" if isinstance(node["additionalProperties"], dict) else "a mapping"


def flow(value: Any) -> str:
    """Write a value as it stands in a cluster file."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return f"'{value}'" if isinstance(value, str) and not is_plain(value) else str(value)


def cell(text: str) -> str:
    """Escape what would end a cell of a table or begin a tag."""
    return text.replace("|", "\\|").replace("<", "\\<")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
