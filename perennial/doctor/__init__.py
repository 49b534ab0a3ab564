"""What a check of `doctor` finds, and what all checks share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

#: Bytes of free disk below which a worker that spills is in danger.
FREE = 2**30


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found."""

    #: What was looked at.
    check: str
    #: ``ok``, ``warning`` or ``error``.
    level: Literal["ok", "warning", "error"]
    #: What was found and, unless all is well, what to do.
    text: str


def guarded(check: str, run: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Run a check that talks to others: whatever it raises is a finding as well."""
    try:
        yield from run()
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        yield Finding(check, "error", f"{text}; see `perennial logs scheduler`")


def level(findings: list[Finding]) -> Any:
    """Worst level among findings."""
    order = ("ok", "warning", "error")
    return max((finding.level for finding in findings), key=order.index, default="ok")
