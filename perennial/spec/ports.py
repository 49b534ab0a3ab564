"""Which ports of a cluster meet on a machine, and which ranges are too narrow. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from perennial.spec.units import Refusal

Range = tuple[int, int]


class _Group(Protocol):
    @property
    def processes(self) -> int: ...
    @property
    def ports(self) -> Range | None: ...


class _Cluster(Protocol):
    """What is asked of a `perennial.spec.ClusterSpec`."""

    @property
    def workers(self) -> Mapping[str, _Group]: ...
    def ports(self) -> Mapping[str, int]: ...


@dataclass(frozen=True, slots=True)
class PortUse:
    """What stands on one machine, as far as ports go."""

    #: ``scheduler`` and ``jupyter``, where they are there.
    services: frozenset[str]
    #: The most members of each group there.
    members: Mapping[str, int]
    #: Name of the machine; empty where there is no other.
    machine: str = ""


def refusals(spec: _Cluster, places: Iterable[PortUse]) -> Iterator[Refusal]:
    """Refuse ports that meet, and ranges that hold too few of them."""
    fixed = {path: (port, port) for path, port in spec.ports().items()}
    yield from _meeting(spec, fixed)
    alike: set[tuple[frozenset[str], frozenset[str]]] = set()
    widest: dict[str, PortUse] = {}
    for place in places:
        ranged = [name for name in place.members if spec.workers[name].ports is not None]
        for name in ranged:
            if place.members[name] > widest.get(name, place).members[name] or name not in widest:
                widest[name] = place
        if (place.services, frozenset(ranged)) not in alike:
            alike.add((place.services, frozenset(ranged)))
            yield from _meeting(spec, _taken(spec, place, fixed))
    for name, place in widest.items():
        yield from _narrow(spec, name, place)


def _taken(spec: _Cluster, place: PortUse, fixed: Mapping[str, Range]) -> dict[str, Range]:
    """List the ports of a machine by key path; ranges of groups first."""
    taken = {}
    for name in spec.workers:
        ports = spec.workers[name].ports
        if name in place.members and ports is not None:
            taken[f"workers.{name}.ports"] = ports
    there = {path: one for path, one in fixed.items() if path.partition(".")[0] in place.services}
    return taken | there


def _meeting(spec: _Cluster, taken: Mapping[str, Range]) -> Iterator[Refusal]:
    seen: dict[str, Range] = {}
    # Of two that meet, the one that the file does not leave to its default is refused.
    for path, (first, last) in sorted(taken.items(), key=lambda item: _wrote(spec, item[0])):
        for other, (low, high) in seen.items():
            if first <= high and low <= last:
                ports = str(low) if low == high else f"{low}:{high}"
                yield Refusal(
                    f"ports beside those of {other} ({ports})",
                    "change one of the two",
                    tuple(path.split(".")),
                )
        seen[path] = (first, last)


def _narrow(spec: _Cluster, name: str, place: PortUse) -> Iterator[Refusal]:
    group = spec.workers[name]
    needed = 2 * group.processes * place.members[name]
    if group.ports is not None and group.ports[1] - group.ports[0] + 1 < needed:
        where = f" on {place.machine}" if place.machine else ""
        yield Refusal(
            f"at least {needed} ports{where}: a worker process and its nanny take one each",
            "widen the range",
            ("workers", name, "ports"),
        )


def _wrote(spec: _Cluster, path: str) -> bool:
    """Whether a port of a service stands in the file, or is a group's."""
    part, _, key = path.partition(".")
    return part == "workers" or key in getattr(spec, part).model_fields_set
