"""Errors that a person reads: one line each, what was found, what is allowed, what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self


class PerennialError(Exception):
    """Something went wrong that the user can act on.

    Parameters
    ----------
    message : str
        One line: the object, what was found and what to do next.
    """

    #: Exit code of the command line.
    exit_code = 1


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a cluster file.

    Parameters
    ----------
    path : str
        Key path, such as ``workers.cpu.memory``; ``(file)`` for the file as a whole.
    found : str
        What stands there.
    allowed : str
        What may stand there.
    fix : str
        What to do.
    line : int or None
        Line in the file, counted from 1.
    of_key : bool
        Whether the key itself is wrong, and nothing is said of a value.
    """

    path: str
    found: str
    allowed: str
    fix: str
    line: int | None = None
    of_key: bool = False

    def render(self, source: str) -> str:
        """One line that names file, line and key path."""
        where = source if self.line is None else f"{source}:{self.line}"
        return f"{where}: {self.path}: found {self.found}; allowed: {self.allowed}; {self.fix}"


class SpecError(PerennialError):
    """A cluster file that cannot be used, with all its faults.

    Parameters
    ----------
    faults : sequence of Fault
        Everything that is wrong, in the order of the file.
    source : str
        Name of the file.
    """

    exit_code = 2

    def __init__(self, faults: Sequence[Fault], source: str = "<cluster>") -> None:
        self.faults = tuple(faults)
        self.source = source
        super().__init__("\n".join(fault.render(source) for fault in self.faults))

    def without_lines(self) -> Self:
        """Return the same faults of a text that nobody has written as a file."""
        return type(self)([replace(fault, line=None) for fault in self.faults], self.source)

    def without_values(self, found: str) -> Self:
        """Return the same faults where values are secret: what to write is made of them as well."""
        return type(self)(
            [
                replace(fault, line=None)
                if fault.of_key
                else replace(fault, found=found, fix="write another value", line=None)
                for fault in self.faults
            ],
            self.source,
        )


class FleetError(PerennialError):
    """A platform could not do what was asked of a fleet."""


class NoCapacity(FleetError):  # noqa: N818  (the contract's word)
    """A platform has no room for more members."""


class Busy(FleetError):  # noqa: N818  (the contract's word)
    """A platform works on something else just now; the same can be asked again."""


class FleetMissing(FleetError):  # noqa: N818  (the contract's word)
    """A platform does not know a fleet."""
