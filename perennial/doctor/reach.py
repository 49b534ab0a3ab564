"""Finds which way between the machines of a cluster is blocked, and says what opens it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from perennial.doctor import probing
from perennial.doctor.firewalls import Firewall, advice
from perennial.errors import PerennialError

#: The machine that asks, as a source: where a client runs.
HERE = ""

Role = Literal["scheduler", "worker", "jupyter"]
_AT_ONCE = 16
_HTTPS = 443
#: Ports for workers in an example.
_EXAMPLE = (40000, 40099)


@dataclass(frozen=True, slots=True)
class End:
    """A port that others must reach."""

    #: The machine on which it is.
    machine: str
    #: The address that others use.
    host: str
    #: The port.
    port: int
    #: What listens there.
    role: Role
    #: A worker's group.
    group: str | None = None
    #: First and last port that the cluster file gives it; None where it is another one after each
    #: start.
    pinned: tuple[int, int] | None = None
    #: Whether something is known to listen there.
    listens: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """A machine from which ways are tried."""

    #: Its name; `HERE` for the one that asks.
    machine: str
    #: Its address as a firewall sees it; empty when it is not known.
    address: str
    #: What runs on it.
    roles: frozenset[str]


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one way."""

    #: From where.
    source: Source
    #: To where.
    end: End
    #: What `perennial.doctor.probing.probe` answered.
    outcome: str


def end_of(machine: str, url: str, role: Role, open_there: Collection[int] = ()) -> End:
    """Describe the port of an address."""
    parts = urlsplit(url)
    port = parts.port or _HTTPS
    return End(
        machine, parts.hostname or "", port, role, None, (port, port), listens=port in open_there
    )


def here(wanted: Sequence[End]) -> Source:
    """Describe this machine, as those see it that it wants to reach."""
    place = next(((end.host, end.port) for end in wanted), ("", 0))
    return Source(HERE, probing.own_address(*place) if place[0] else "", frozenset())


def ways(source: Source, ends: Iterable[End]) -> list[End]:
    """Say what a machine must reach.

    A client needs the scheduler and Jupyter; a worker the scheduler and the workers of other
    machines, from which it fetches data; the scheduler the workers, from which it fetches
    results.
    """
    needs: set[str] = set()
    if source.machine == HERE:
        needs |= {"scheduler", "jupyter"}
    if "worker" in source.roles:
        needs |= {"scheduler", "worker"}
    if "scheduler" in source.roles:
        needs |= {"worker"}
    if "jupyter" in source.roles:
        needs |= {"scheduler"}
    return [end for end in ends if end.role in needs and end.machine != source.machine]


def examine(
    sources: Sequence[Source],
    ends: Sequence[End],
    probe: Callable[[str, list[tuple[str, int]]], list[str]],
) -> list[Result]:
    """Try every way that the cluster needs, from all machines at once."""

    def one(source: Source) -> list[Result]:
        wanted = ways(source, ends)
        if not wanted:
            return []
        places = [(end.host, end.port) for end in wanted]
        try:
            if source.machine == HERE:
                answers = probing.probe(places)
            else:
                answers = probe(source.machine, places)
        except PerennialError:
            return []
        return [Result(source, end, answer) for end, answer in zip(wanted, answers, strict=True)]

    if not sources:
        return []
    with ThreadPoolExecutor(min(_AT_ONCE, len(sources))) as pool:
        return [result for results in pool.map(one, sources) for result in results]


def diagnose(
    results: Sequence[Result], firewalls: Mapping[str, Firewall] | None = None
) -> list[str]:
    """Say what is blocked and what opens it, one line a way; nothing when all is open."""
    reached = {result.end for result in results if result.outcome == probing.OPEN}
    blocked: dict[tuple[Source, str, str, str | None, str], list[End]] = defaultdict(list)
    silent: dict[End, None] = {}
    for result in results:
        end, outcome = result.end, result.outcome
        if outcome == probing.OPEN:
            continue
        if outcome == probing.REFUSED and end not in reached and not end.listens:
            silent[end] = None
            continue
        blocked[result.source, end.machine, end.role, end.group, outcome].append(end)
    lines = [
        f"{end.machine}: nothing listens at {end.host}:{end.port}, where the {end.role} should be; "
        "`perennial status` says whether it runs, or a firewall there rejects it"
        for end in silent
    ]
    lines += [
        _blocked(source, ends, outcome, (firewalls or {}).get(ends[0].machine, Firewall()))
        for (source, *_, outcome), ends in blocked.items()
    ]
    return lines


def _blocked(source: Source, ends: Sequence[End], outcome: str, firewall: Firewall) -> str:
    """Say which way is blocked: from one machine to one kind of service on another."""
    first = ends[0]
    who = source.machine or "this machine"
    client = "client" if source.machine == HERE else _role(source, first)
    ports = sorted({end.port for end in ends})
    listed = ", ".join(str(port) for port in ports)
    said = {probing.TIMEOUT: "no answer", probing.REFUSED: "rejected"}.get(outcome, outcome)
    head = (
        f"{client} → {first.role}: {who} cannot reach {first.machine} at "
        f"{first.host}:{listed}/tcp ({said}): "
    )
    text = head + _remedy(source, ends, outcome, firewall)
    if source.machine == HERE:
        text += "; or go through a machine that reaches it, `perennial connect --ssh USER@MACHINE`"
    return text


def _remedy(source: Source, ends: Sequence[End], outcome: str, firewall: Firewall) -> str:
    """Say what opens a way."""
    first = ends[0]
    if outcome == probing.UNKNOWN_NAME:
        return (
            f"add {first.host} to DNS or to /etc/hosts {'there' if source.machine else 'here'}, or"
            f" set `internal` of {first.machine} to its IP address"
        )
    # A firewall that rejects in the network's name is told from no network only by being there.
    if outcome == probing.NO_ROUTE and firewall.kind in ("", "none"):
        return (
            f"look at the network between the two; if {first.machine} has another address that "
            "both reach, name it with `internal` or `interface`"
        )
    if all(end.pinned for end in ends):
        given = sorted({end.pinned for end in ends if end.pinned})
        return advice(first.machine, firewall, source.address, given)
    return (
        f"a worker's port is another after each start; set `workers.{first.group}.ports` (such "
        f"as {_EXAMPLE[0]}:{_EXAMPLE[1]}), run `perennial up` or "
        "`pulumi up`, and "
        f"{advice(first.machine, firewall, source.address, [_EXAMPLE])}"
    )


def _role(source: Source, end: End) -> str:
    """Name the one on the machine that needs the way."""
    if end.role == "worker" and "worker" not in source.roles:
        return "scheduler"
    return "worker" if "worker" in source.roles else "client"
