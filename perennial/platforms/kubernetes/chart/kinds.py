"""What a value of the chart may be. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

Kind = Callable[[Any], bool]


def is_number(value: Any) -> bool:
    """Whether it is a number, and no truth."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) or is_number(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_port(value: Any) -> bool:
    digits = isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 6
    return (digits or _is_count(value)) and 1 <= int(value) <= 65535


def _is_positive(value: Any) -> bool:
    digits = isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 6
    return (digits or _is_count(value)) and int(value) >= 1


def _is_quantity(value: Any) -> bool:
    if is_number(value):
        return bool(value >= 0)
    pattern = r"[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?"
    return isinstance(value, str) and re.fullmatch(pattern, value, re.ASCII) is not None


def _is_list_of(test: Kind) -> Kind:
    return lambda value: isinstance(value, list) and all(map(test, value))


def _is_map_of(test: Kind) -> Kind:
    return lambda value: isinstance(value, Mapping) and all(map(test, value.values()))


def _is_map(value: Any) -> bool:
    return isinstance(value, Mapping)


#: Kind → its test, and its words.
KINDS: dict[str, tuple[Kind, str]] = {
    "any": (lambda _: True, "anything"),
    "text": (_is_text, "a text"),
    "flag": (lambda value: isinstance(value, bool), "true or false"),
    "count": (_is_count, "a whole number, 0 or more"),
    "positive": (_is_positive, "a whole number, 1 or more"),
    "port": (_is_port, "a port from 1 to 65535"),
    "quantity": (_is_quantity, 'a quantity of Kubernetes such as "500m" or 4Gi'),
    "quantities": (_is_map_of(_is_quantity), "quantities of Kubernetes by name"),
    "map": (_is_map, "a mapping"),
    "texts by name": (_is_map_of(_is_text), "a mapping of texts"),
    "maps": (_is_list_of(_is_map), "a list of mappings"),
    "texts": (_is_list_of(_is_text), "a list of texts"),
}


def fits(kind: str, value: Any) -> bool:
    """Whether a value is of a kind."""
    return KINDS[kind][0](value)


def words(kind: str) -> str:
    """Say what a kind is."""
    return KINDS[kind][1]
