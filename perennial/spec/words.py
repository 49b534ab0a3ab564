"""How keys and values of a cluster file are shown in a message: short, on one line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches

#: Key path of the file as a whole.
WHOLE = "(file)"

_LONGEST = 60
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_.-]{1,60}")


def shorten(text: str) -> str:
    """Cut a text off at about 60 letters and escape what does not print."""
    return one_line(text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…")


def one_line(text: str) -> str:
    """Escape what does not print, such as line feeds."""
    return "".join(letter if letter.isprintable() else _escape(letter) for letter in text)


def show(value: object) -> str:
    """Write a value as a person would in YAML; only the size of a mapping or a list."""
    if isinstance(value, str):
        return f"'{shorten(value)}'"
    if isinstance(value, Mapping):
        return "an empty mapping" if not value else f"a mapping of {plural(len(value), 'key')}"
    if isinstance(value, Sequence):
        return "an empty list" if not value else f"a list of {plural(len(value), 'value')}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    # Python refuses to write very long integers in decimal.
    return shorten(f"{value:#x}" if isinstance(value, int) and abs(value) > 2**64 else str(value))


def key_path(location: Iterable[str | int]) -> str:
    """Join keys to a path such as ``workers.cpu.memory`` or ``dask.preload[0]``."""
    path = ""
    for step in location:
        if isinstance(step, int):
            path += f"[{step}]"
        else:
            path += ("." if path else "") + show_key(step)
    return path or WHOLE


def show_key(key: str) -> str:
    """Write a key; in quotes when it holds anything but letters, digits, dots and dashes."""
    return key if _PLAIN_KEY.fullmatch(key) else show(key)


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Find the known word that was most likely meant, if one is as alike as the cutoff (0 to 1)."""
    # The comparison takes time that grows with the square of the length.
    near = get_close_matches(word[:_LONGEST], list(known), n=1, cutoff=cutoff)
    return near[0] if near else None


def plural(count: int, noun: str) -> str:
    """Write a count with its noun: ``1 key``, ``2 keys``."""
    return f"{count} {noun}" if count == 1 else f"{count:,} {noun}s"


def _escape(letter: str) -> str:
    return letter.encode("unicode_escape", "surrogatepass").decode("ascii")
