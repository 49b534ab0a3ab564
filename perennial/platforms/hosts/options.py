"""Machines that are already there, reached over SSH, under systemd or supervisord."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from perennial.errors import Fault
from perennial.platforms.hosts import assignment
from perennial.platforms.hosts.keys import Path
from perennial.platforms.hosts.machines import Entry, Machine, Reach
from perennial.spec.environment import hashed, names
from perennial.spec.options import PlatformOptions
from perennial.spec.ports import PortUse
from perennial.spec.units import Refusal

if TYPE_CHECKING:
    from perennial.spec.models import ClusterSpec


class Options(Reach, PlatformOptions):
    """Machines that are already there, reached over SSH."""

    machines: list[Entry] = Field(
        min_length=1,
        max_length=2000,
        title="machines, each an address or a mapping",
        examples=[["machine-a.example.org", "machine-b.example.org"]],
    )
    """The machines, each an address or a mapping."""

    known_hosts: Path | None = Field(default=None, examples=["~/.ssh/known_hosts"])
    """File of the machines' host keys; the user's own when it is not given. A machine whose key
    is not in it is refused."""

    max_unavailable: int = Field(default=1, ge=1, le=100_000)
    """Members of a group that a change may stop at the same time."""

    def of(self, machine: Machine, key: str) -> Any:
        """Look up an option of a machine, or that of all."""
        own = getattr(machine, key)
        return getattr(self, key) if own is None else own

    def refusals(self, spec: ClusterSpec) -> Iterator[Refusal]:
        """Refuse what cannot stand on these machines."""
        if spec.environment.python is None and spec.environment.requirements is None:
            yield Refusal(
                "python or requirements: the machines have no environment of their own",
                "write `environment: {requirements: requirements.txt}`, or python with the path"
                " of an interpreter on the machines",
                ("environment",),
            )
        lines = spec.environment.requirements or []
        if hashed(lines) and not names(lines, "dask-perennial"):
            yield Refusal(
                "requirements with hashes and dask-perennial, or without hashes",
                "add dask-perennial to what they were compiled from, and compile them again",
                ("environment", "requirements"),
            )
        yield from assignment.divide(spec, self.machines)[1]
        yield from _two_keys(self)
        for place, machine in enumerate(self.machines):
            yield from _two_keys(machine, "machines", place)

    def warnings(self, spec: ClusterSpec) -> Iterator[Fault]:
        """Warn of a dashboard that nobody reaches."""
        there = {name for name, own in self.assignments(spec).items() if own.jupyter}
        here = {name for name, own in self.assignments(spec).items() if own.scheduler}
        if there and there != here:
            yield Fault(
                "hosts.machines",
                f"Jupyter on {', '.join(there)} and the scheduler on {', '.join(here)}",
                "both on one machine, for Dask's dashboard behind Jupyter's login",
                f"move the role jupyter to {', '.join(here)}, or do without the dashboard",
            )

    def port_uses(self, spec: ClusterSpec) -> Iterator[PortUse]:
        """Say what stands on the same machine."""
        for name, own in self.assignments(spec).items():
            services = [("scheduler", own.scheduler), ("jupyter", own.jupyter)]
            there = frozenset(service for service, is_there in services if is_there)
            yield PortUse(there, own.most, name)

    def counts(self, spec: ClusterSpec) -> Mapping[str, int]:
        """Sizes of groups that the machines say: the sum of their counts, or one for each."""
        found = assignment.divide(spec, self.machines)[0]
        total = {name: sum(own.counts.get(name, 0) for own in found) for name in spec.workers}
        return {name: n for name, n in total.items() if n != spec.workers[name].count}

    def assignments(self, spec: ClusterSpec) -> dict[str, assignment.Assignment]:
        """Say what each machine has to do, by its name."""
        found = assignment.divide(spec, self.machines)[0]
        return {machine.called: own for machine, own in zip(self.machines, found, strict=True)}


def _two_keys(reach: Reach, *at: str | int) -> Iterator[Refusal]:
    """Refuse what is said in two ways."""
    if reach.identity is not None and reach.private_key is not None:
        yield Refusal(
            "identity or private_key, not both",
            "remove one of them",
            ("hosts", *at, "private_key"),
            found="both",
        )
    if reach.jump_host_key is not None and "," in (reach.jump or ""):
        yield Refusal(
            "jump_host_key beside one machine in jump",
            "write the keys of several into the file known_hosts",
            ("hosts", *at, "jump_host_key"),
            found="several machines in jump",
        )
