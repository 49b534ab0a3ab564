"""Requirements inside a cluster file: what a machine can install by itself. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

from perennial.spec.units import Refusal, refuse_all

_ELSEWHERE = re.compile(r"\s*(-[rcef]\b|--(requirement|constraint|editable|find-links)\b)")
_HERE = re.compile(r"\s*([./~]|file:|[^#]*@\s*(file:|[./~]))", re.ASCII)
_LOGIN = re.compile(r"://[^/\s@]*@")


def _check(lines: list[str]) -> list[str]:
    refusals = [refusal for index, line in enumerate(lines) for refusal in _unfit(index, line)]
    if refusals:
        raise refuse_all(refusals)
    return lines


def _unfit(index: int, line: str) -> Iterator[Refusal]:
    if _ELSEWHERE.match(line):
        yield Refusal(
            "requirements without other files",
            "put all requirements into one file, such as `uv pip compile` writes",
            (index,),
        )
    elif _HERE.match(line):
        yield Refusal(
            "packages by name, since the machines do not have this path",
            "put the wheel into a folder and name it under `wheelhouse`",
            (index,),
        )
    if _LOGIN.search(line):
        # Requirements are no secret: they stand in the state, and on every machine.
        yield Refusal(
            "addresses without a login",
            "put the login into /etc/dask-perennial/netrc on the machines",
            (index,),
        )


#: Lines of a requirements file. A person may also write the file's path;
#: `perennial.spec.named_files` puts the lines in its place.
Requirements = Annotated[
    list[str],
    AfterValidator(_check),
    WithJsonSchema(
        {
            "description": "File of requirements, or a list of them.",
            "examples": ["requirements.txt"],
            "type": ["string", "array"],
            "items": {"type": "string"},
            "patternErrorMessage": "Allowed: a file of requirements, or a list of them.",
        }
    ),
]


def names(lines: list[str], package: str) -> bool:
    """Whether some requirements name a package, which is written with dashes."""
    pattern = re.compile(rf"\s*{package.replace('-', '[-_.]+')}\s*($|[^\w.\s-])", re.IGNORECASE)
    return any(pattern.match(line) for line in lines)


def hashed(lines: list[str]) -> bool:
    """Whether requirements have hashes, after which each one needs them."""
    return any("--hash" in line for line in lines)
