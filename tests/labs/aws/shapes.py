"""A call's parameters against the model of its API: what moto takes and AWS refuses."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from botocore.model import (
    ListShape,
    MapShape,
    OperationModel,
    ServiceModel,
    Shape,
    StringShape,
    StructureShape,
)
from botocore.session import Session

#: Java's character classes, which AWS's patterns use, as Python's.
_CLASSES = {
    r"\p{L}": r"^\W\d_",
    r"\p{Z}": r"\s",
    r"\p{N}": r"\d",
    r"\p{ASCII}": r"\x00-\x7f",
    r"\p{Graph}": r"!-~",
    r"\p{Print}": r" -~",
    r"\p{Alnum}": r"a-zA-Z0-9",
    r"\p{Alpha}": r"a-zA-Z",
    r"\p{Digit}": r"0-9",
    r"\p{Punct}": r"!-/:-@\[-`{-~",
    r"\p{Space}": r"\s",
}


@cache
def service(name: str) -> ServiceModel:
    """Return botocore's model of a service."""
    return Session().get_service_model(name)


def faults(operation: OperationModel, params: Mapping[str, Any]) -> list[str]:
    """Return what AWS would refuse of a call's parameters, a line each."""
    shape = operation.input_shape
    return list(_faults(shape, params, operation.name)) if shape is not None else []


def _faults(shape: Shape, value: Any, path: str) -> Iterator[str]:
    if isinstance(shape, StructureShape):
        yield from _structure(shape, value, path)
    elif isinstance(shape, ListShape):
        yield from _length(shape, value, path)
        for number, each in enumerate(value):
            yield from _faults(shape.member, each, f"{path}[{number}]")
    elif isinstance(shape, MapShape):
        yield from _length(shape, value, path)
        for key, each in value.items():
            yield from _faults(shape.key, key, f"{path} key {key!r}")
            yield from _faults(shape.value, each, f"{path}.{key}")
    elif isinstance(shape, StringShape):
        yield from _text(shape, value, path)
    elif shape.type_name in {"integer", "long", "float", "double"}:
        least, most = shape.metadata.get("min", value), shape.metadata.get("max", value)
        if not least <= value <= most:
            yield f"{path}: {value} is not between {least} and {most}"


def _structure(shape: StructureShape, value: Any, path: str) -> Iterator[str]:
    for name in shape.required_members:
        if value.get(name) is None:
            yield f"{path}.{name}: missing"
    for name, each in value.items():
        if name not in shape.members:
            yield f"{path}.{name}: unknown"
        elif each is not None:
            yield from _faults(shape.members[name], each, f"{path}.{name}")


def _text(shape: StringShape, value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, str):
        yield f"{path}: {type(value).__name__} in the place of a string"
        return
    yield from _length(shape, value, path)
    if shape.enum and value not in shape.enum:
        yield f"{path}: {value!r} is none of {', '.join(shape.enum)}"
    pattern = shape.metadata.get("pattern")
    if pattern and not _matches(pattern, value):
        yield f"{path}: {value!r} does not match {pattern}"


def _length(shape: Shape, value: Any, path: str) -> Iterator[str]:
    least, most = shape.metadata.get("min", 0), shape.metadata.get("max")
    if len(value) < least or (most is not None and len(value) > most):
        yield f"{path}: a length of {len(value)} is not between {least} and {most}"


def _matches(pattern: str, value: str) -> bool:
    expression = _compiled(pattern)
    return expression is None or expression.fullmatch(value) is not None


@cache
def _compiled(pattern: str) -> re.Pattern[str] | None:
    r"""Return Java's pattern as Python's; none where Python has no counterpart.

    Within brackets ``[\p{L}…]`` cannot be replaced by a negated class; there all letters are named.
    """
    inside = pattern.replace(r"\p{L}", r"a-zA-Z\u00aa-\uffdc")
    for java, python in _CLASSES.items():
        inside = inside.replace(java, python)
    # AWS matches the whole value, however the pattern is anchored.
    try:
        return re.compile(inside, re.DOTALL)
    except re.error:
        return None
