"""Sizes, durations, ports and names, as people write them in a cluster file.

Sizes and durations are parsed by Dask's own parsers (``dask.utils.parse_bytes`` and
``dask.utils.parse_timedelta``), so whatever Dask's configuration accepts is accepted here.
Each type keeps its number for the program and writes itself back as a person would.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema
from pydantic_core import PydanticCustomError

GIB = 2**30

_BINARY = (("PiB", 2**50), ("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))
_SECONDS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
_NUMBER_AND_UNIT = re.compile(r"^\s*\d[\d_.eE+]*\s*[A-Za-zµ]+\s*$")
_MIN = re.compile(r"\bmins?\b|(?<=\d)mins?\b")

#: A DNS label (RFC 1123), shortened: the name stands before others in names that have 63 letters.
NAME_PATTERN = r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$"


def refuse(allowed: str, fix: str) -> PydanticCustomError:
    """Make a validation error that says what is allowed and what to do.

    Parameters
    ----------
    allowed, fix : str
        The two halves of the message; what was found is added by the reader of the file.
    """
    return PydanticCustomError(
        "refused", "allowed: {allowed}; {fix}", {"allowed": allowed, "fix": fix}
    )


def parse_size(value: Any) -> int:
    """Bytes from ``8 GiB``, ``500 MB`` or a number of bytes."""
    from dask.utils import parse_bytes  # 0.2 s to import; only needed once a file is read

    problem = refuse("a size such as 8 GiB or 500 MB", "write a number and a unit")
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise problem
    if isinstance(value, str) and not _NUMBER_AND_UNIT.match(value):
        raise problem
    try:
        size: int = parse_bytes(value)
    except (ValueError, OverflowError):
        raise problem from None
    if not 0 < size < 2**63:
        raise refuse("a size above zero and below 8 EiB", "write a size such as 8 GiB")
    return size


def format_size(size: int) -> str | int:
    """Write a size back: ``8 GiB`` where that is exact, else bytes."""
    for unit, factor in _BINARY:
        if size % factor == 0:
            return f"{size // factor} {unit}"
    return size


def parse_duration(value: Any) -> float:
    """Seconds from ``5 min``, ``60 s``, ``1.5 h`` or a number of seconds."""
    from dask.utils import parse_timedelta

    problem = refuse("a duration such as 5 min or 60 s", "write a number and a unit")
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise problem
    if isinstance(value, str) and not _NUMBER_AND_UNIT.match(value):
        raise problem
    try:
        # Dask knows "m" and "minutes" but not "min", which is what people (and SI) write.
        seconds = float(parse_timedelta(_MIN.sub("minutes", str(value))))
    except (ValueError, KeyError, OverflowError):
        raise problem from None
    if not 0 <= seconds <= 10 * 365 * 86400:
        raise refuse("a duration from 0 s to 10 years", "write a duration such as 60 s")
    return seconds


def format_duration(seconds: float) -> str | float:
    """Write a duration back: ``5 min`` where that is exact, else seconds."""
    for unit, factor in _SECONDS:
        if seconds and seconds % factor == 0:
            return f"{int(seconds // factor)} {unit}"
    return "0 s" if seconds == 0 else seconds


def parse_ports(value: Any) -> tuple[int, int]:
    """First and last port from ``40000:40099`` (Dask's own way to write a range) or one port."""
    problem = refuse(
        "a port or a range of ports such as 40000:40099", "write the first and the last port"
    )
    if isinstance(value, bool):
        raise problem
    if isinstance(value, list | tuple) and len(value) == 2:
        value = f"{value[0]}:{value[1]}"
    match = re.fullmatch(r"\s*(\d{1,5})\s*(?::\s*(\d{1,5})\s*)?", str(value))
    if match is None:
        raise problem
    first = int(match[1])
    last = int(match[2] or first)
    if not 1 <= first <= last <= 65535:
        raise problem
    return first, last


def format_ports(ports: tuple[int, int]) -> str:
    """Write a range of ports back."""
    return f"{ports[0]}:{ports[1]}"


def _schema(description: str, *examples: Any, types: tuple[str, ...] = ("string",)) -> Any:
    return WithJsonSchema(
        {
            "type": list(types) if len(types) > 1 else types[0],
            "description": description,
            "examples": list(examples),
        }
    )


Size = Annotated[
    int,
    BeforeValidator(parse_size),
    PlainSerializer(format_size),
    _schema("A size: a number and a unit.", "8 GiB", "500 MB", types=("string", "integer")),
]

Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration),
    _schema("A duration: a number and a unit.", "5 min", "60 s", types=("string", "number")),
]

PortRange = Annotated[
    tuple[int, int],
    BeforeValidator(parse_ports),
    PlainSerializer(format_ports),
    _schema("A range of ports, first and last.", "40000:40099", types=("string", "integer")),
]

Port = Annotated[int, Field(ge=1, le=65535)]

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
