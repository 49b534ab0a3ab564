"""Sizes, durations, ports, names and folders, as people write them in a cluster file.

Sizes and durations are parsed by Dask's own parsers (``dask.utils.parse_bytes`` and
``dask.utils.parse_timedelta``), so they mean here what they mean in Dask's configuration.
Each type keeps its number for the program and writes itself back as a person would.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from perennial.spec.words import show

GIB = 2**30

#: Less is no memory for a Dask process, but a forgotten unit.
LEAST_SIZE = 2**20
LONGEST_DURATION = 10 * 365 * 86400

_BINARY = (("PiB", 2**50), ("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))
_DECIMAL = (("GB", 10**9), ("MB", 10**6), ("kB", 10**3))
_SECONDS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))

_NUMBER = r"^\s*\d+(\.\d+)?\s*"
#: A number and a unit; the same patterns stand in the JSON Schema.
SIZE_PATTERN = _NUMBER + r"([kKmMgGtTpP][iI]?[bB]?|[bB])\s*$"
DURATION_PATTERN = (
    _NUMBER + r"(ns|us|ms|s|m|mins?|h|d|w|(nano|micro|milli)?seconds?|minutes?|hours?|days?|weeks?)"
    r"\s*$"
)
PORTS_PATTERN = r"^\s*\d{1,5}\s*:\s*\d{1,5}\s*$"

#: A DNS label (RFC 1123), shortened: the name stands before others in names that have 63 letters.
NAME_PATTERN = r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$"
RESOURCE_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"
#: Paths become part of units and command lines. What every service manager's file can hold: no
#: control character, quote, backslash, colon or dollar, no white space at the end, no comment or
#: expansion of supervisord's, and none of the letters that stand for what only a machine knows.
#: `perennial.quoting` refuses these too, but knows no line.
_CARRIED = (
    r"(?![^\n]*(\s$|\s[;#]|%\(here\)s))"
    r"[^\u0000-\u001f\u007f-\u009f\"'\\:$\ud800-\udfff\ue000-\ue004\ufdd0-\ufdef\ufffe\uffff]*$"
)
PATH_PATTERN = rf"^/{_CARRIED}"
FOLDER_PATTERN = rf"^(/|~$|~/){_CARRIED}"

_SIZES = "a size such as 8 GiB or 500 MB"
_DURATIONS = "a duration such as 5 min or 60 s"
_RANGES = "a port or a range of ports such as 40000:40099"
_NAMES = "a name of 1 to 40 letters a-z, digits and -, with a letter first and no - last"
_RESOURCES = "a name of letters A-Z and a-z, digits, _ and -"
_PATHS = "an absolute path"
_FOLDERS = "a folder, absolute or under ~/"
_LETTERS = (
    "a path that every service manager can hold: without quotes, backslash, colon, $, control"
    " characters, ; or # after a space, %(here)s, or white space at its end"
)
_RENAME = "rename it, or link to it under another name"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a validator refuses a value."""

    #: What may stand there.
    allowed: str
    #: What to do.
    fix: str
    #: Keys from the validated value to the one that is wrong.
    at: tuple[str | int, ...] = ()
    #: Whether the key itself is refused, not what stands under it.
    key: bool = False
    #: What was found, where the value itself must not be shown.
    found: str = ""


def refuse(allowed: str, fix: str, *at: str | int) -> PydanticCustomError:
    """Make a validation error of one refusal; `at` leads to the value that is wrong."""
    return refuse_all([Refusal(allowed, fix, at)])


def refuse_all(refusals: Iterable[Refusal]) -> PydanticCustomError:
    """Make one validation error of several refusals, at least one."""
    every = tuple(refusals)
    return PydanticCustomError(
        "refused",
        "allowed: {allowed}; {fix}",
        {"allowed": every[0].allowed, "fix": every[0].fix, "refusals": every},
    )


@dataclass(frozen=True, slots=True)
class Worded:
    """A text that matches a pattern from its first letter to its last, for `Annotated`."""

    description: str
    example: str
    pattern: str
    allowed: str
    fix: str

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Validate by the pattern."""
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Say the same in the JSON Schema."""
        return {
            "type": "string",
            "description": self.description,
            "examples": [self.example],
            **_pattern(f"^({self.pattern})$", self.allowed),
        }

    def _check(self, value: str) -> str:
        if not re.fullmatch(self.pattern, value, re.ASCII):
            raise refuse(self.allowed, self.fix)
        return value


def parse_size(value: Any) -> int:
    """Bytes from ``8 GiB``, ``500 MB`` or a number of bytes."""
    from dask.utils import parse_bytes  # 0.2 s to import; only needed once a file is read

    problem = refuse(_SIZES, "write a number and a unit")
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise problem
    if isinstance(value, str) and not re.fullmatch(SIZE_PATTERN, value, re.ASCII):
        raise problem
    try:
        size: int = parse_bytes(value)
    except (ValueError, OverflowError):
        raise problem from None
    if not LEAST_SIZE <= size < 2**63:
        unit = f"is {show(value)} missing a unit?" if isinstance(value, int) else "change it"
        raise refuse("a size from 1 MiB to 8 EiB", unit)
    return size


def format_size(size: int) -> str | int:
    """Write a size back: ``8 GiB`` or ``500 MB`` where that is exact, else bytes."""
    # Dask multiplies floats, which are exact for powers of two and below 2**53.
    units = _BINARY + (_DECIMAL if size < 2**53 else ())
    exact = [(factor, unit) for unit, factor in units if size % factor == 0]
    if not exact:
        return size
    factor, unit = max(exact)
    return f"{size // factor} {unit}"


def parse_duration(value: Any) -> float:
    """Seconds from ``5 min``, ``60 s``, ``1.5 h`` or a number of seconds."""
    from dask.utils import parse_timedelta

    problem = refuse(_DURATIONS, "write a number and a unit")
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise problem
    if isinstance(value, str):
        if not re.fullmatch(DURATION_PATTERN, value, re.ASCII):
            raise problem
        # Dask knows "m" and "minutes" but not "min", which is what people (and SI) write.
        value = re.sub(r"mins?\s*$", "minutes", value)
    try:
        seconds = float(parse_timedelta(value) if isinstance(value, str) else value)
    except (ValueError, OverflowError):
        raise problem from None
    if not 0 <= seconds <= LONGEST_DURATION:
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
    problem = refuse(_RANGES, "write the first and the last port")
    if isinstance(value, str) and re.fullmatch(PORTS_PATTERN, value, re.ASCII):
        value = [int(port) for port in value.split(":")]
    elif isinstance(value, int):
        value = [value, value]
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise problem
    first, last = value
    if any(isinstance(port, bool) or not isinstance(port, int) for port in value):
        raise problem
    if not 1 <= first <= last <= 65535:
        raise refuse("ports from 1 to 65535, the lower one first", "change the range")
    return first, last


def format_ports(ports: tuple[int, int]) -> str:
    """Write a range of ports back."""
    return f"{ports[0]}:{ports[1]}"


def name_like(example: str) -> BeforeValidator:
    """Validate a name, with an example of its own in the message."""

    def check(value: Any) -> str:
        # Rust's and Python's `$` differ on a last line feed: not by Field(pattern).
        if not isinstance(value, str) or not re.fullmatch(NAME_PATTERN, value):
            raise refuse(_NAMES, f"write a name such as {example}")
        return value

    return BeforeValidator(check)


def _resource(value: str) -> str:
    if not re.fullmatch(RESOURCE_PATTERN, value):
        raise refuse(_RESOURCES, "write a name such as GPU")
    return value


def _path(value: str) -> str:
    if not re.fullmatch(PATH_PATTERN, value):
        if value.startswith("/"):
            raise refuse(_LETTERS, _RENAME)
        raise refuse(_PATHS, "write a path that begins with /")
    return value


def _folder(value: str) -> str:
    if not re.fullmatch(FOLDER_PATTERN, value):
        if value.startswith(("/", "~/")):
            raise refuse(_LETTERS, _RENAME)
        raise refuse(_FOLDERS, "write a path that begins with / or ~/")
    return value


def _number(value: float) -> float | int:
    """Write a whole number without a point."""
    return int(value) if value.is_integer() else value


def _schema(description: str, *examples: Any, **keywords: Any) -> WithJsonSchema:
    return WithJsonSchema({"description": description, "examples": list(examples), **keywords})


def _pattern(pattern: str, message: str) -> dict[str, str]:
    """Give a pattern with what editors say when it does not match (they know this keyword)."""
    return {"pattern": pattern, "patternErrorMessage": f"Allowed: {message}."}


Size = Annotated[
    int,
    BeforeValidator(parse_size),
    PlainSerializer(format_size),
    _schema(
        "A size: a number and a unit, or bytes.",
        *("8 GiB", "500 MB"),
        type=["string", "integer"],
        **_pattern(SIZE_PATTERN, _SIZES),
        minimum=LEAST_SIZE,
    ),
]

Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration),
    _schema(
        "A duration: a number and a unit, or seconds.",
        *("5 min", "60 s"),
        type=["string", "number"],
        **_pattern(DURATION_PATTERN, _DURATIONS),
        minimum=0,
        maximum=LONGEST_DURATION,
    ),
]

PortRange = Annotated[
    tuple[int, int],
    BeforeValidator(parse_ports),
    PlainSerializer(format_ports),
    _schema(
        "A range of ports, first and last, or one port.",
        "40000:40099",
        type=["string", "integer", "array"],
        **_pattern(PORTS_PATTERN, _RANGES),
        minimum=1,
        maximum=65535,
        items={"type": "integer", "minimum": 1, "maximum": 65535},
        minItems=2,
        maxItems=2,
    ),
]

Port = Annotated[int, Field(ge=1, le=65535)]

Name = Annotated[
    str,
    name_like("lab"),
    _schema(
        "A DNS label of at most 40 letters.", "lab", type="string", **_pattern(NAME_PATTERN, _NAMES)
    ),
]

ResourceName = Annotated[
    str,
    AfterValidator(_resource),
    _schema("Name of a resource.", "GPU", type="string", **_pattern(RESOURCE_PATTERN, _RESOURCES)),
]

Amount = Annotated[
    float,
    Field(gt=0, lt=10**12),
    PlainSerializer(_number),
    _schema("An amount.", 1, type="number", exclusiveMinimum=0, exclusiveMaximum=10**12),
]

#: An absolute path.
AbsolutePath = Annotated[
    str,
    AfterValidator(_path),
    _schema(
        "An absolute path.", "/opt/dask/bin/python", type="string", **_pattern(PATH_PATTERN, _PATHS)
    ),
]

#: A folder, absolute or under the home folder of the user that runs the services.
Folder = Annotated[
    str,
    AfterValidator(_folder),
    _schema(
        "A folder, absolute or under ~/.",
        "~/data",
        type="string",
        **_pattern(FOLDER_PATTERN, _FOLDERS),
    ),
]


#: A file or a folder beside the cluster file.
LocalPath = Annotated[
    str,
    Worded(
        "A path, absolute, under ~/ or from the folder of the cluster file.",
        "wheels",
        r"[^\u0000-\u001f\u007f]+",
        "a path, absolute, under ~/ or from the folder of the cluster file",
        "write a path",
    ),
]


def about(size: float) -> str:
    """Write a size for a message, rounded: ``23.4 GiB``, ``800 MiB``."""
    unit, factor = ("GiB", 2**30) if size >= 2**30 else ("MiB", 2**20)
    return f"{size / factor:.1f}".removesuffix(".0") + f" {unit}"
