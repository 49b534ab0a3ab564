"""Check a cluster on machines, each one and between them, for problems."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from perennial import authority, paths
from perennial.doctor import FREE, Finding, checks, guarded, outside
from perennial.doctor.checks import SAME
from perennial.errors import FleetError, SpecError
from perennial.platforms.hosts.checks import SKEW
from perennial.platforms.hosts.drift import drift
from perennial.platforms.hosts.operator import Operator
from perennial.platforms.hosts.secrets import own_certificate
from perennial.platforms.hosts.survey import Seen, see, tried
from perennial.spec import ClusterSpec
from perennial.state import command

#: Seconds that a clock may be wrong without a finding.
NOTABLE = 30.0


def examine(operator: Operator, python: str | None) -> Iterator[Finding]:
    """Run every check on a cluster of this user's."""
    up = command("up", operator.name)
    everywhere = operator.everywhere(lambda machine: see(operator, machine))
    seen = {name: each for name, each in everywhere.items() if isinstance(each, Seen)}
    away = {name: str(each) for name, each in everywhere.items() if isinstance(each, FleetError)}
    yield from machines(away, len(seen))
    if seen:
        yield from services(operator.name, seen)
        yield ports(seen)
        yield clock({name: float(each.look["ahead"]) for name, each in seen.items()})
        yield from disk({name: each.free for name, each in seen.items()})
        here = checks.same(checks.packages_of(python))
        yield from versions({name: each.environment for name, each in seen.items()}, here, up)
    expiry = _expiry(operator, seen)
    if expiry or operator.spec.security.tls:
        yield checks.certificates(expiry, datetime.now(UTC), up)
        yield checks.secrets(operator.paths.root)
    yield from own(operator.spec, datetime.now(UTC))
    results = tried(operator, seen, not paths.tunnel(operator.name).is_file())
    yield from outside.network(results, {name: each.firewall for name, each in seen.items()})
    cut = outside.is_cut(results)
    yield from guarded("client", lambda: checks.as_client(operator.name, python, cut))


def machines(away: Mapping[str, str], reached: int) -> Iterator[Finding]:
    """Say which machines were reached, and why the others were not."""
    for text in away.values():
        yield Finding("machines", "error", text)
    if not away:
        yield Finding("machines", "ok", f"{reached} reached")


def services(cluster: str, seen: Mapping[str, Seen]) -> Iterator[Finding]:
    """Check whether everything runs as it was deployed, and nothing was edited."""
    good, repairs = True, f"{command('up', cluster)} repairs it"
    for machine, each in seen.items():
        lines = drift(cluster, each.look, {})
        if lines:
            good = False
            yield Finding("services", "error", f"{machine}: {', '.join(lines)}; {repairs}")
        members = each.look["members"]
        often = [f"{n} {m['restarts']} times" for n, m in members.items() if m["restarts"] > 3]
        if often:
            good = False
            text = f"{machine}: came back by themselves: {', '.join(often)}; see `perennial logs`"
            yield Finding("services", "warning", text)
        if each.healthy is False and not lines:
            good = False
            text = f"{machine}: the scheduler does not answer; see `perennial logs scheduler`"
            yield Finding("services", "error", text)
    if good:
        number = sum(len(each.look["manifest"]["members"]) for each in seen.values())
        yield Finding("services", "ok", f"{number} run as deployed")


def ports(seen: Mapping[str, Seen]) -> Finding:
    """Check whether other processes have taken ports of the cluster."""
    taken = [
        f"{machine}: port {port} is taken by {who}"
        for machine, each in seen.items()
        for port, who in each.look["taken"].items()
    ]
    if taken:
        return Finding("ports", "error", f"{'; '.join(taken)}; stop that or write another port")
    return Finding("ports", "ok", "no other process has one of the cluster's")


def clock(ahead: Mapping[str, float]) -> Finding:
    """Compare the machines' clocks with this machine's."""
    wrong = {machine: by for machine, by in ahead.items() if abs(by) > NOTABLE}
    if not wrong:
        largest = max(map(abs, ahead.values()))
        return Finding("clock", "ok", f"{largest:.0f} s apart at most")
    listed = ", ".join(
        f"{machine} is {abs(by):.0f} s {'ahead of' if by > 0 else 'behind'} this machine"
        for machine, by in wrong.items()
    )
    level: Literal["warning", "error"] = (
        "error" if max(map(abs, wrong.values())) > SKEW else "warning"
    )
    why = "certificates look expired or not valid yet; " if level == "error" else ""
    return Finding(
        "clock", level, f"{listed}: {why}set it right, such as by `timedatectl set-ntp true`"
    )


def disk(free: Mapping[str, Mapping[str, int]]) -> Iterator[Finding]:
    """Check free space where workers spill, and where state stands."""
    least = min((left for each in free.values() for left in each.values()), default=0)
    for machine, each in free.items():
        for folder, left in each.items():
            if left < FREE:
                text = f"{machine}: {left / 2**20:.0f} MiB free in {folder}; make room"
                yield Finding("disk", "warning", text)
    if least >= FREE:
        yield Finding("disk", "ok", f"{least / 2**30:.0f} GiB free or more on each machine")


def versions(
    found: Mapping[str, Mapping[str, Any] | None],
    here: Mapping[str, str | None],
    up: str = "`perennial up`",
) -> Iterator[Finding]:
    """Check that every machine, and so Jupyter, has the versions that this machine has."""
    repairs = f"{up} repairs it"
    good: dict[str, Mapping[str, Any]] = {}
    for machine, each in found.items():
        if each is None:
            text = f"{machine}: the Python of the services is gone; {repairs}"
        elif "fault" in each:
            text = f"{each['fault']}; {repairs}"
        elif each["missing"]:
            text = f"{machine}: {each['python']} lacks {', '.join(each['missing'])}; {repairs}"
        else:
            good[machine] = each
            continue
        yield Finding("versions", "error", text)
    have = {
        machine: {"python": each["version"], **each["packages"]} for machine, each in good.items()
    }
    different = [line for name in SAME if (line := _unequal(name, have))]
    if different:
        text = f"{'; '.join(different)}: give every machine the same, as `environment` would"
        yield Finding("versions", "error", text)
    elif len({each["digest"] for each in good.values()}) > 1:
        text = "the machines have different packages; `packages` below names those of workers"
        yield Finding("versions", "warning", text)
    if different or not have:
        return
    first = next(iter(have.values()))
    other = [
        f"{name} is {here.get(name) or 'missing'} here and {first[name] or 'missing'} there"
        for name in SAME
        if here.get(name) != first[name]
    ]
    if other:
        yield Finding("versions", "warning", f"{'; '.join(other)}: install the same here")
    elif len(good) == len(found):
        listed = ", ".join(f"{name} {first[name]}" for name in SAME)
        yield Finding("versions", "ok", f"{listed} on {len(good)} machines, in Jupyter, and here")


def _expiry(operator: Operator, seen: Mapping[str, Seen]) -> dict[str, datetime]:
    """When each certificate ends: the client's here, and the machines' own."""
    found = authority.expiry(operator.paths.tls) if Path(operator.paths.tls).is_dir() else {}
    for machine, each in seen.items():
        for role, known in each.look["manifest"].get("certificates", {}).items():
            found[f"{machine}'s {role}"] = datetime.fromisoformat(known["ends"])
    return found


def own(spec: ClusterSpec, now: datetime) -> Iterator[Finding]:
    """Check the operator's own certificate of JupyterLab: nobody else renews it."""
    from perennial.certificates import ends

    try:
        pair = own_certificate(spec)
    except SpecError as error:
        yield Finding("jupyter", "error", str(error))
        return
    end = ends(pair[0].encode()) if pair else None
    if end is not None:
        renew = f"{command('up', spec.name)} with another certificate"
        yield checks.certificates({"jupyter.certificate": end}, now, renew)


def _unequal(name: str, have: Mapping[str, Mapping[str, str | None]]) -> str:
    """Say who has which version of a package; nothing where all have the same."""
    by_version: dict[str, list[str]] = defaultdict(list)
    for machine, packages in have.items():
        by_version[packages.get(name) or "missing"].append(machine)
    if len(by_version) < 2:
        return ""
    return f"{name} is " + " and ".join(
        f"{version} on {', '.join(machines)}" for version, machines in by_version.items()
    )
