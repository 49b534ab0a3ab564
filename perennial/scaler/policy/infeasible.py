"""Work that no group can run, by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from perennial.scaler.policy.packing import counts, largest, slots_of
from perennial.scaler.policy.views import sane
from perennial.scaler.values import Group, Infeasible, Signature, Work


def impossible(work: Iterable[Work], groups: Sequence[Group]) -> tuple[Infeasible, ...]:
    """Name the work that no group can run; it asks for nothing."""
    found = []
    for item in sorted(work, key=lambda item: item.signature):
        tasks = int(counts(item.unrunnable)[0])
        if not tasks:
            continue
        why = _why(item.signature, groups)
        if why:
            found.append(Infeasible(item.signature, tasks, sane(item.oldest), _text(item, why)))
    return tuple(found)


def _text(item: Work, why: str) -> str:
    """Say what cannot run and why: ``60 tasks need FPGA: 1; no group has it``."""
    tasks = item.unrunnable.tasks
    subject = f"{tasks} task{'s' * (tasks != 1)}"
    if item.signature.pinned:
        return f"{subject} {'name' if tasks != 1 else 'names'} a worker or a host; {why}"
    needs = ", ".join(f"{name}: {amount:g}" for name, amount in item.signature.resources)
    verb = "need" if tasks != 1 else "needs"
    return f"{subject} {verb} {needs or 'a worker'}; {why}"


def _why(signature: Signature, groups: Sequence[Group]) -> str:
    """Say why no group can run a signature; the empty string when one can."""
    able = [group for group in groups if slots_of(group, signature)]
    if signature.pinned:
        return "it is not there, and a new member helps only if it is that one"
    if any(largest(group) for group in able):
        return ""
    if able:
        names = " and ".join(group.name for group in able)
        return f"{names} could run them, but may have no member (max: 0)"
    lacking = []
    for name, amount in signature.resources:
        having = [group for group in groups if group.resources.get(name, 0) > 0]
        if not having:
            return "no group has " + ("it" if len(signature.resources) == 1 else name)
        most = max(having, key=lambda group: (group.resources[name], group.name))
        if most.resources[name] < amount:
            of = "a process of a member" if most.processes > 1 else "a member"
            lacking.append(f"{of} of {most.name} has {name}: {most.resources[name]:g}")
    if lacking:
        return "but " + " and ".join(lacking)
    return "no group has them together" if signature.resources else "there is no group"
