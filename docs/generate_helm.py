"""Write the table of the Helm chart's values from the table that converts them.

Run by `make docs`; the page includes the result, which is not kept in the repository.
"""

from __future__ import annotations

from pathlib import Path

from perennial.platforms.kubernetes.chart.table import ROWS, Row

TARGET = Path(__file__).parent / "reference" / "generated" / "helm-values.md"


def render() -> str:
    """Write a table for each part of the chart."""
    lines: list[str] = []
    section = None
    for row in sorted(ROWS, key=lambda row: "." in row.key):
        name = row.section if "." in row.key else "The top of the file"
        if name != section:
            title = f"`{name}`" if "." in row.key else name
            lines += ["", f"## {title}", "", "| value | in the cluster file |", "|---|---|"]
            section = name
        lines.append(f"| `{row.key}` | {meaning(row)} |")
    return "\n".join([*lines[1:], ""])


def meaning(row: Row) -> str:
    """Say what a value becomes, or why it has no counterpart."""
    if not row.ours:
        return f"none: {row.why}"
    return f"`{row.ours}`" + (f": {row.why}" if row.why else "")


def main() -> None:
    """Write the file, where its text has changed."""
    text = render()
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    if not TARGET.exists() or TARGET.read_text(encoding="utf-8") != text:
        TARGET.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
