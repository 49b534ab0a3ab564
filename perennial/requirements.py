"""The requirements of a cluster as its machines install them. Pure, but for our own wheel."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from perennial.errors import Fault, SpecError
from perennial.own_wheel import NAME, own_wheel
from perennial.spec import ClusterSpec
from perennial.spec.environment import names


def requirements(spec: ClusterSpec, wheel: str) -> str:
    """Write the requirements, with dask-perennial by the path and the digest of our own wheel.

    A name would be asked for at the index, where anybody could have registered it.
    """
    lines, found = [], False
    for entry in _entries(spec.environment.requirements or ()):
        ours = names(entry, NAME)
        found = found or ours
        lines += [_ours(wheel, " ".join(entry))] if ours else entry
    if not found:
        extra = "[jupyter]" if spec.jupyter is not None else ""
        lines.append(_ours(wheel, f"{NAME}{extra}"))
    return "\n".join(lines) + "\n"


def _entries(lines: Iterable[str]) -> Iterator[list[str]]:
    """Give the lines of each requirement: one that ends with a backslash goes on in the next."""
    entry: list[str] = []
    for line in lines:
        entry.append(line)
        if not line.endswith("\\"):
            yield entry
            entry = []
    if entry:
        yield entry


def _ours(path: str, text: str) -> str:
    """Write a requirement of dask-perennial as one of the wheel that is sent; a URL stays."""
    from packaging.requirements import InvalidRequirement, Requirement

    plain = re.split(r"\s(?:#|--)|\\", text)[0].strip()
    wheel = own_wheel()
    try:
        wanted = Requirement(plain)
    except InvalidRequirement:
        raise _refused(plain) from None
    if wanted.url is not None:
        return text
    if not wanted.specifier.contains(wheel.version, prereleases=True):
        raise _refused(plain)
    extras = f"[{','.join(sorted(wanted.extras))}]" if wanted.extras else ""
    marker = f" ; {wanted.marker}" if wanted.marker else ""
    return f"{NAME}{extras} @ file://{path}{marker} --hash=sha256:{wheel.digest}"


def _refused(found: str) -> SpecError:
    fault = Fault(
        "environment.requirements",
        repr(found),
        f"{NAME}=={own_wheel().version}, which runs here and is sent to the machines",
        "remove the version, or install that one here",
    )
    return SpecError([fault])
