"""The sizes that CONTRIBUTING allows: `python -m tests.code_sizes`, as `make lint` runs it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: Lines of a file, and of a function below its signature.
FILE, FUNCTION = 400, 60


def too_long(path: Path) -> Iterator[str]:
    """Name what is too long in a file, one line each."""
    text, where = path.read_text(encoding="utf-8"), path.relative_to(ROOT)
    if (lines := text.count("\n")) > FILE:
        yield f"{where}: {lines} lines; allowed: {FILE}; make it a folder of the same name"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.body[0].lineno + 1
            if lines > FUNCTION:
                yield f"{where}:{node.lineno}: {node.name} has {lines} lines; allowed: {FUNCTION}"


def main() -> int:
    """Print what is too long; 1 if there is anything."""
    tops = ("perennial", "stacks")
    files = [path for top in tops for path in sorted((ROOT / top).rglob("*.py"))]
    found = [line for path in files for line in too_long(path)]
    print("\n".join(found) or f"sizes: {len(files)} files, none too long")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
