"""How many members a machine can hold, and how many it can start at a time. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

#: Worker processes for each core; more of them only take each other's time.
PER_CORE = 16
#: Largest part of the memory that is kept for the scheduler, JupyterLab and the scaler. Their
#: limits are ceilings; `perennial init` leaves them as much.
SERVICES = 0.25
#: Members on their way at a time, for each core: starting Python is what keeps a core busy.
STARTS = 2
#: Part of the memory that must be free before more is started.
FREE = 0.05
#: Bytes that a worker process and its nanny take before they have anything to do; a lower limit.
IDLE = 100 * 2**20
#: Load for each core above which one starts after the other.
LOAD = 8.0


@dataclass(frozen=True, slots=True)
class Use:
    """What members may use: worker processes, and the sum of their memory limits in bytes."""

    processes: int = 0
    memory: int = 0

    def __add__(self, other: Use) -> Use:
        return Use(self.processes + other.processes, self.memory + other.memory)

    def __mul__(self, many: int) -> Use:
        return Use(self.processes * many, self.memory * many)


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a machine can hold: its cores and memory in bytes, and what other services may use."""

    cores: int
    memory: int
    services: int = 0

    @property
    def holds(self) -> Use:
        """What all members together may use."""
        reserved = min(self.services, int(self.memory * SERVICES))
        return Use(max(1, self.cores) * PER_CORE, self.memory - reserved)

    def more(self, used: Use, each: Use) -> int:
        """Count the members like ``each`` that fit beside what is used already."""
        if not self.fits(used):
            return 0
        free = self.holds
        fit = (free.processes - used.processes) // max(1, each.processes)
        if each.memory > 0:
            fit = min(fit, (free.memory - used.memory) // each.memory)
        return fit

    def fits(self, used: Use) -> bool:
        """Whether what is used is not more than the machine can hold."""
        return used.processes <= self.holds.processes and used.memory <= self.holds.memory

    @property
    def most(self) -> int:
        """Worker processes that have room here when they do nothing; more would only thrash."""
        return max(1, self.memory // IDLE)

    def __str__(self) -> str:
        holds = self.holds
        return (
            f"{self.cores} core{'s' * (self.cores != 1)} and {gib(self.memory)}: room for"
            f" {holds.processes} worker processes and {gib(holds.memory)} of memory limits"
        )


@dataclass(frozen=True, slots=True)
class MachineResources:
    """A machine as a process on it sees it, within the limits of a container or control group."""

    cores: int
    #: Bytes of memory.
    memory: int
    #: Bytes of it that nobody uses now.
    available: int
    #: Processes that run or wait to, on average of the last minute.
    load: float = 0.0

    @property
    def most(self) -> int:
        """Worker processes that have room here when they do nothing."""
        return Capacity(self.cores, self.memory).most


#: How a person says that a size is meant which is above what a machine holds.
MEANT = "add --force"


def total(uses: Iterable[Use]) -> Use:
    """Add up what members may use."""
    return sum(uses, Use())


def refusal(
    uses: Mapping[str, Use],
    sizes: Mapping[str, int],
    holds: Capacity,
    before: Use,
    machine: str = "this machine",
    meant: str = MEANT,
) -> str:
    """Say why a machine cannot hold groups of these sizes; empty if it can, or has as much.

    Without ``meant`` nothing is refused but what nobody can mean: more than it holds idle.
    """
    asked = total(uses[name] * size for name, size in sizes.items())
    listed = ", ".join(f"{name}={size}" for name, size in sizes.items() if size)
    if asked.processes > holds.most:
        return (
            f"{listed}: {asked.processes:,} worker processes; {machine}'s {gib(holds.memory)} hold"
            f" at most {holds.most:,} idle ones; ask for fewer"
        )
    if not meant or holds.fits(asked):
        return ""
    if asked.processes <= before.processes and asked.memory <= before.memory:
        return ""
    return (
        f"{listed}: {asked.processes:,} worker processes with {gib(asked.memory)} of memory"
        f" limits; allowed: what {machine} holds, {holds}; lower count, processes or memory, or"
        f" {meant}"
    )


def starting(machine: MachineResources, processes: int, begun: int = 0) -> int:
    """Count the members that may be started now, beside the worker processes on their way."""
    at_once = starts(machine.cores, machine.load, machine.available, machine.memory)
    return max(0, -(-(at_once - begun) // max(1, processes)))


def starts(cores: int, load: float, free: int, memory: int) -> int:
    """Count the worker processes that may be on their way at a time while a machine is so busy."""
    if free < FREE * memory:
        return 0
    return 1 if load > LOAD * max(1, cores) else STARTS * max(1, cores)


def gib(size: int) -> str:
    """Write a number of bytes: ``23.4 GiB``."""
    return f"{size / 2**30:.1f} GiB"
