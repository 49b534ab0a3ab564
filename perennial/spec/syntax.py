"""Turns errors of the YAML parser into the words of the cluster file. Pure."""

from __future__ import annotations

import re

import yaml

from perennial.errors import Fault
from perennial.spec.words import shorten

#: Where a line ends for YAML 1.1; the parser counts lines so.
_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")

#: Part of the parser's complaint → what is allowed, what to do.
_COMPLAINTS = (
    ("mapping values are not allowed", "one `KEY: VALUE` in a line", "quote the value or indent"),
    ("could not find expected ':'", "`KEY: VALUE`", "write a colon and a space behind the key"),
    ("did not find expected key", "keys that begin in one column", "correct the indentation"),
    ("did not find expected '-'", "items that begin in one column", "correct the indentation"),
    ("escape", '\\\\, \\", \\n and the like', "write the text in single quotes"),
    ("hexdecimal", "hexadecimal digits behind \\x and \\u", "write the text in single quotes"),
    ("quoted scalar", "a quote at both ends", "close the quote"),
    ("flow mapping", "a } for each {", "close the brace"),
    ("flow sequence", "a ] for each [", "close the bracket"),
    ("',' or '}'", "a } for each {", "close the brace"),
    ("',' or ']'", "a ] for each [", "close the bracket"),
    ("directive", "YAML without directives", "remove the line that begins with %"),
    ("tag", "plain values without tags", "remove what begins with !"),
    ("anchor", "anchors and aliases such as &a and *a", "put the text in quotes"),
    ("alias", "anchors and aliases such as &a and *a", "put the text in quotes"),
    ("document start", "one document", "correct the indentation"),
)


def syntax_fault(error: yaml.YAMLError, text: str, path: str) -> Fault:
    """Turn an error of the YAML parser into a fault at a key path."""
    context = str(getattr(error, "context", None) or "")
    problem = str(getattr(error, "problem", None) or error)
    mark = getattr(error, "problem_mark", None)
    lines = _BREAK.split(text)
    line = _line(error, f"{context} {problem}", len(lines))
    found = f"`{shorten(lines[line].strip())}`" if lines[line].strip() else "the end of the file"
    letter = _letter(lines, mark)
    if letter == "\t" or "tab character" in problem:
        return Fault(path, "a tab", "spaces", "indent with spaces", line + 1)
    if "cannot start any token" in problem:
        found = f"{letter.strip() or 'a character'} in {found}"
        return Fault(path, found, "text in quotes", "put the value in quotes", line + 1)
    complaint = f"{context} {problem}"
    for part, allowed, fix in _COMPLAINTS:
        if part in complaint:
            return Fault(path, found, allowed, fix, line + 1)
    return Fault(path, found, "YAML: `KEY: VALUE` lines", "correct the line", line + 1)


def _line(error: yaml.YAMLError, complaint: str, lines: int) -> int:
    mark = getattr(error, "problem_mark", None)
    # What is not closed is only missed behind it, often at the end of the file.
    opened = ("quoted", "flow", "simple key")
    if any(word in complaint for word in opened) and not any(
        word in complaint for word in ("escape", "hexdecimal")
    ):
        mark = getattr(error, "context_mark", None) or mark
    return min(mark.line, lines - 1) if mark is not None else 0


def _letter(lines: list[str], mark: yaml.Mark | None) -> str:
    if mark is None or mark.line >= len(lines):
        return ""
    return lines[mark.line][mark.column : mark.column + 1]
