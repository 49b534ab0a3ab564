"""Which machine does what: from the roles in a cluster file to the members on each machine. Pure.

Nothing here fails: what is wrong comes back as refusals, all at once, beside a division of what
is right.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING

from perennial.spec.units import Refusal
from perennial.spec.words import nearest

if TYPE_CHECKING:
    from perennial.platforms.hosts.machines import Machine
    from perennial.spec.models import ClusterSpec, WorkerGroup

_SERVICES = ("scheduler", "jupyter")


@dataclass(slots=True)
class Assignment:
    """What one machine has to do."""

    #: Whether these run there.
    scheduler: bool = False
    jupyter: bool = False
    #: First number of members of each group that has a place there.
    counts: dict[str, int] = field(default_factory=dict)
    #: The most members of each of these groups, as far as can be said.
    most: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Role:
    """A role as it was written: its name, its count if it has one, and its place."""

    name: str
    count: int | None
    at: tuple[str | int, ...]


def divide(
    spec: ClusterSpec, machines: Sequence[Machine]
) -> tuple[list[Assignment], list[Refusal]]:
    """Divide a cluster among machines."""
    roles = _roles(spec, machines)
    refusals = [*_named_twice(spec, machines), *_unsound(spec, roles)]
    if not any(machine.roles for machine in machines):
        roles = _usual(spec, len(machines))
    elif idle := [index for index, machine in enumerate(machines) if not machine.roles]:
        refusals += [
            Refusal(
                "roles, since other machines have them",
                "write what runs there, or remove the machine",
                (spec.platform, "machines", index),
            )
            for index in idle
        ]
    found = [Assignment() for _ in machines]
    refusals += _services(spec, roles, found)
    for name, group in spec.workers.items():
        refusals += _members(spec, name, group, roles, found)
    return found, [
        *refusals,
        *_same_members(spec, machines, found),
        *_unheard(spec, machines, found),
        *_asked_in_the_clear(spec),
    ]


def spread(total: int, over: int) -> list[int]:
    """Divide a number evenly; the first ones get what is left over."""
    each, rest = divmod(max(total, 0), over)
    return [each + (index < rest) for index in range(over)]


def _roles(spec: ClusterSpec, machines: Sequence[Machine]) -> list[list[_Role]]:
    every = []
    for index, machine in enumerate(machines):
        at = (spec.platform, "machines", index, "roles")
        one = []
        for place, role in enumerate(machine.roles or ()):
            if isinstance(role, str):
                one.append(_Role(role, None, (*at, place)))
            else:
                one += [_Role(name, count, (*at, place, name)) for name, count in role.items()]
        every.append(one)
    return every


def _usual(spec: ClusterSpec, machines: int) -> list[list[_Role]]:
    """Give the first machine the services, and the others the groups."""
    services = ["scheduler", *(["jupyter"] if spec.jupyter is not None else [])]
    groups = list(spec.workers)
    names = [services if machines > 1 else [*services, *groups], *[groups] * (machines - 1)]
    return [[_Role(name, None, ()) for name in one] for one in names]


def _named_twice(spec: ClusterSpec, machines: Sequence[Machine]) -> Iterator[Refusal]:
    names: dict[str, int] = {}
    seen: dict[tuple[str, int | None], int] = {}
    for index, machine in enumerate(machines):
        at = (spec.platform, "machines", index)
        # Two may have one address and two ports of SSH, but their services may not meet.
        for key, place in (
            ((machine.address.lower(), machine.port), "address"),
            ((machine.service_host.lower(), 0), "internal" if machine.internal else "address"),
        ):
            if (first := seen.setdefault(key, index)) != index:
                allowed = f"each machine once, and this is machines[{first}]"
                yield Refusal(allowed, "remove one of the two", (*at, place))
                break
        else:
            if (first := names.setdefault(machine.called, index)) != index:
                called = f"a name other than {machine.called}, which machines[{first}] has"
                yield Refusal(called, "add a name to one of the two", (*at, "name"))
            elif not machine.called:
                yield Refusal("a name", "add a name such as machine-a", (*at, "name"))
        if len(machines) > 1 and _is_own(machine.service_host):
            yield Refusal(
                "an address that the other machines reach",
                "write it, or add it as internal",
                (*at, "internal" if machine.internal else "address"),
            )


def _unsound(spec: ClusterSpec, roles: list[list[_Role]]) -> Iterator[Refusal]:
    known = [*_SERVICES, *spec.workers]
    for one in roles:
        seen: set[str] = set()
        for role in one:
            if role.name not in known or (role.name in _SERVICES and role.count is not None):
                near = nearest(role.name, known)
                fix = (
                    f"did you mean {near}?" if near and near != role.name else "write one of these"
                )
                yield Refusal(_some(known), fix, role.at)
            elif role.name in seen:
                yield Refusal("each role once on a machine", "remove one of the two", role.at)
            seen.add(role.name)
            if role.name == "jupyter" and spec.jupyter is None:
                yield Refusal(
                    "roles other than jupyter, since the file says `jupyter: null`",
                    "remove one of the two",
                    role.at,
                )


def _services(
    spec: ClusterSpec, roles: list[list[_Role]], found: list[Assignment]
) -> Iterator[Refusal]:
    for service in _SERVICES:
        places = [(index, role) for index, one in enumerate(roles) for role in one]
        places = [(index, role) for index, role in places if role.name == service]
        for _, role in places[1:]:
            if role.at[:3] != places[0][1].at[:3]:
                first = places[0][0]
                allowed = f"one {service}, and machines[{first}] has it"
                yield Refusal(allowed, "remove one of the two", role.at)
        for index, _ in places[:1]:
            setattr(found[index], service, True)
        if not places and service == "scheduler":
            yield Refusal(
                "one machine with the role scheduler",
                "add scheduler to the roles of one machine",
                (spec.platform, "machines"),
            )
        elif not places and spec.jupyter is not None:
            for one in found:
                one.jupyter = one.scheduler


def _members(
    spec: ClusterSpec,
    name: str,
    group: WorkerGroup,
    roles: list[list[_Role]],
    found: list[Assignment],
) -> Iterator[Refusal]:
    own: dict[int, int | None] = {}
    for index, one in enumerate(roles):
        for role in one:
            if role.name == name:
                own.setdefault(index, role.count)
    free = [index for index, count in own.items() if count is None]
    fixed = {index: count for index, count in own.items() if count is not None}
    said = sum(fixed.values())
    total = _total(group, len(own), said if fixed else None)
    yield from _sums(spec, name, (total, said), bool(own), bool(free))
    shares = dict(zip(free, spread(total - said, len(free)), strict=True)) if free else {}
    most = dict(zip(free, spread(group.most - said, len(free)), strict=True)) if free else {}
    if not free and own:
        more = spread(group.most - said, len(own))
        most = {index: fixed[index] + n for index, n in zip(own, more, strict=True)}
    for index in own:
        count = fixed[index] if index in fixed else shares[index]
        found[index].counts[name] = count
        found[index].most[name] = max(count, most.get(index, 0))


def _total(group: WorkerGroup, machines: int, said: int | None) -> int:
    """Size of a group: as written, else the sum of its counts, else one for each machine."""
    if "count" in group.model_fields_set or not machines:
        return group.count
    if said is not None:
        return said
    return max(group.scale.min, min(group.scale.max, machines)) if group.scale else machines


def _sums(
    spec: ClusterSpec, name: str, sizes: tuple[int, int], placed: bool, free: bool
) -> Iterator[Refusal]:
    """Compare a group's size with what the machines say of it."""
    (total, said), at = sizes, ("workers", name, "count")
    scale = spec.workers[name].scale
    if not placed:
        fix = f"add {name} to the roles of a machine"
        if total > 0:
            yield Refusal("0, since no machine has the group among its roles", fix, at)
        elif scale is not None:
            scaled = ("workers", name, "scale")
            yield Refusal("null, since no machine has the group among its roles", fix, scaled)
    elif said > total or (not free and said != total):
        least = f"at least {said}" if free else str(said)
        allowed = f"{least}, the sum of its counts in {spec.platform}.machines"
        yield Refusal(allowed, "change the count, or those of the machines", at)
    elif scale and not scale.min <= total <= scale.max:
        allowed = f"bounds with {total} in them, the sum of its counts in {spec.platform}.machines"
        yield Refusal(allowed, "change the bounds or the counts", ("workers", name, "scale"))


def _same_members(
    spec: ClusterSpec, machines: Sequence[Machine], found: list[Assignment]
) -> Iterator[Refusal]:
    """Refuse groups and machines whose members would have the same names."""
    prefixes: dict[str, tuple[str, int]] = {}
    for index, one in enumerate(found):
        for group in one.counts:
            prefix = f"{group}-{machines[index].called}"
            other, where = prefixes.setdefault(prefix, (group, index))
            if other != group:
                yield _alike(spec, (group, index), (other, where))
    for prefix, (group, index) in prefixes.items():
        shorter, _, number = prefix.rpartition("-")
        if number.isdigit() and shorter in prefixes and prefixes[shorter][0] != group:
            yield _alike(spec, (group, index), prefixes[shorter])


def _alike(spec: ClusterSpec, one: tuple[str, int], other: tuple[str, int]) -> Refusal:
    return Refusal(
        f"a name with which members of {one[0]} here are not called like those of {other[0]}"
        f" on machines[{other[1]}]",
        "give one of the machines another name",
        (spec.platform, "machines", one[1], "name"),
    )


def _unheard(
    spec: ClusterSpec, machines: Sequence[Machine], found: list[Assignment]
) -> Iterator[Refusal]:
    for index, (machine, one) in enumerate(zip(machines, found, strict=True)):
        if machine.interface is not None and machine.internal is None:
            what = "the scheduler" if one.scheduler else "Jupyter"
            if one.scheduler or one.jupyter:
                yield Refusal(
                    f"internal beside interface, where {what} runs: others must know its address",
                    "add internal, the IP address of that interface or a name for it",
                    (spec.platform, "machines", index, "interface"),
                )


def _asked_in_the_clear(spec: ClusterSpec) -> Iterator[Refusal]:
    """Refuse to ask a scheduler what a machine shall run which anybody may stand for."""
    if spec.scaled and not spec.security.tls:
        key = f"workers.{spec.scaled[0]}.scale"
        yield Refusal(
            f"true, since {key} is there: without TLS anybody on the network runs code on each"
            " machine with that group, and starts and stops its members",
            f"write `security: {{tls: true}}`, or remove {key}",
            ("security", "tls"),
        )


def _is_own(host: str) -> bool:
    """Whether every machine takes an address for its own."""
    try:
        address = ip_address(host)
    except ValueError:
        return host.lower() == "localhost"
    return address.is_loopback or address.is_unspecified


def _some(known: Sequence[str]) -> str:
    return ", ".join(known[:10]) + (", …" if len(known) > 10 else "")
