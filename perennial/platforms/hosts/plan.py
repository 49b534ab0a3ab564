"""What a change would do to a machine, before it does it. Pure.

Compared are the services as they were deployed and as they are asked for. What became of the
machine in between is listed as drift, one line each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from perennial.plan import Impact, Step
from perennial.ssh import keys

if TYPE_CHECKING:
    from perennial.platforms.hosts.environment import EnvironmentSpec
    from perennial.platforms.hosts.machine_services import MachineServices, Size
    from perennial.services import Service

#: What a restart of a service costs the users; of a member of a group, that it is drained first.
IMPACTS = {"scheduler": Impact.LOSES_WORK, "jupyter": Impact.KERNELS}


@dataclass(frozen=True, slots=True)
class MachineState:
    """What a machine has, or shall have."""

    #: Its services as JSON; None where there are none.
    assigned: Mapping[str, Any] | None = None
    #: Its Python environment.
    environment: EnvironmentSpec | None = None
    #: Fingerprints by member as they were deployed; empty where that is not known.
    members: Mapping[str, str] | None = None
    #: The service manager that was found there; None where that is not known.
    init: str | None = None
    #: Fingerprints by group or service as they were deployed, maybe by an earlier version.
    services: Mapping[str, str] | None = None


def steps(
    machine: str, old: MachineState, new: MachineState, drift: Sequence[str] = ()
) -> list[Step]:
    """List what a change does to one machine."""
    if new.assigned is None and new.environment is None:
        reason = "no longer in the cluster file; its data moves to other machines"
        if old.assigned is None and old.environment is None:
            return []
        impact = _all_restarts(old.assigned or {}) or Impact.DRAINED
        return [Step("delete", machine, machine, reason, impact)]
    found = []
    if new.assigned is not None and old.assigned is None:
        found.append(Step("create", machine, machine, _new_machine(new.assigned)))
    found += _environment(machine, old.environment, new.environment)
    found += [Step("update", machine, machine, line) for line in drift]
    if new.assigned is not None and old.assigned is not None:
        found += _reached(machine, old.assigned, new.assigned)
        manager = _manager(machine, old, new.assigned)
        found += manager
        found += _certificates(machine, old.assigned, new.assigned)
        had, wanted = _managers(old, new.assigned)
        # Another service manager starts all of them anew, which is said once.
        said = bool(manager) and had != wanted
        members = _members(machine, old, new.assigned)
        found += [step for step in members if not said or step.action != "restart"]
    return found or _rest(machine, old, new)


def _rest(machine: str, old: MachineState, new: MachineState) -> list[Step]:
    """Say what a change is that no other step has named."""
    before, after = old.assigned or {}, new.assigned or {}
    keys = [key for key in after if before.get(key) != after[key]]
    if keys:
        words = ", ".join(key.replace("_", " ") for key in keys)
        return [Step("update", machine, machine, f"{words} changed; nothing restarts")]
    reason = "they end soon, or the authority or the token changed"
    return [_renewal(machine, after, reason)] if after else []


def _renewal(machine: str, assigned: Mapping[str, Any], reason: str) -> Step:
    """Say what new certificates cost: whatever has read the old ones restarts."""
    reason = f"{reason}; services that read them restart"
    impact = _all_restarts(assigned) if assigned["tls"] else Impact.NONE
    return Step("update", machine, "certificates", reason, impact)


def _all_restarts(assigned: Mapping[str, Any]) -> Impact:
    """Return what it costs that everything on a machine restarts."""
    here = any(service["role"] == "scheduler" for service in assigned.get("services", ()))
    return Impact.LOSES_WORK if here else Impact.NONE


def _new_machine(assigned: Mapping[str, Any]) -> str:
    services = [service["name"] for service in assigned["services"] if not service.get("group")]
    groups = [f"{count} of {group}" for group, count in assigned["counts"].items()]
    return "new machine: " + ", ".join([*services, *groups])


def _environment(
    machine: str, old: EnvironmentSpec | None, new: EnvironmentSpec | None
) -> list[Step]:
    if new is None or old == new:
        return []
    if old is None:
        reason = f"uses {new['python']}" if new.get("python") else "from the requirements"
    elif new.get("kind") == "python":
        reason = f"uses {new['python']} instead"
    else:
        reason = "the requirements changed" if old.get("kind") != "python" else "from requirements"
    return [Step("create" if old is None else "update", machine, "environment", reason)]


#: Part of a target → how it is called.
_TARGET = {
    "address": "its address",
    "user": "the user of its SSH",
    "port": "the port of its SSH",
    "identity": "the key for its SSH",
    "jump": "the jump host before it",
    "known_hosts": "the file of its host key",
    "host_key": "its host key",
    "jump_host_key": "the host key of the jump host",
    "private_key": "the private key for its SSH",
}


#: Part of a target by which a machine chooses the address of its services → how it is called.
_LISTENS = {
    "interface": "the interface that its services listen on",
    "internal": "its address for the other machines",
}


def _shown(key: str, value: Any) -> str:
    """Write a part of a target; a private key, of which there is a digest, is not shown."""
    if value is None:
        return "the default"
    if key == "private_key":
        return "another one"
    if key in ("host_key", "jump_host_key") and value != keys.ACCEPT_NEW:
        return keys.fingerprints(value)
    return str(value)


def _reached(machine: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Step]:
    before, after = old["target"], new["target"]
    found = [
        Step("update", machine, "connection", f"{word} is {_shown(key, after.get(key))} now")
        for key, word in _TARGET.items()
        if before.get(key) != after.get(key)
    ]
    # Only the machine knows which address that is.
    cost = "if that is another address, all services there restart"
    return found + [
        Step(
            "update",
            machine,
            key,
            f"{word} is {after.get(key) or 'the default'} now; {cost}",
            _all_restarts(old),
        )
        for key, word in _LISTENS.items()
        if before.get(key) != after.get(key)
    ]


def _manager(machine: str, old: MachineState, assigned: Mapping[str, Any]) -> list[Step]:
    """Say what another service manager costs: all goes from the machine and comes back."""
    if _init(old.assigned or {}) == _init(assigned):
        return []
    had, wanted = _managers(old, assigned)
    impact = _all_restarts(old.assigned or {})
    if had == wanted:
        reason = f"its services stay under {had}; nothing restarts"
        impact = Impact.NONE
    else:
        reason = (
            f"its services run under {wanted}; all services there are drained, stopped and started"
        )
    return [Step("update", machine, "init", reason, impact)]


def _managers(old: MachineState, assigned: Mapping[str, Any]) -> tuple[str, str]:
    """Return the service manager that a machine has, and the one that it shall have."""
    return old.init or _init(old.assigned or {}) or "systemd", _init(assigned) or "systemd"


def _init(assigned: Mapping[str, Any]) -> str | None:
    """Return the service manager that the cluster file names, if it does."""
    named: str | None = assigned["target"].get("init")
    return named


def _certificates(machine: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Step]:
    had, wanted = set(old["roles"]), set(new["roles"])
    if had & wanted and old["names"] != new["names"]:
        return [_renewal(machine, new, _renamed(old["names"], new["names"]))]
    if new["tls"] and not old["tls"]:
        return [_renewal(machine, new, "TLS is on")]
    added = sorted(wanted - had)
    # Those that are there stay.
    return [Step("create", machine, "certificates", f"now for {', '.join(added)}")] if added else []


def _renamed(old: Sequence[str], new: Sequence[str]) -> str:
    """Say which names certificates bear now, and which no longer."""
    added, gone = (
        ", ".join(name for name in one if name not in other)
        for one, other in ((new, old), (old, new))
    )
    said = [f"now for {added}"] * bool(added) + [f"no longer for {gone}"] * bool(gone)
    return ", ".join(said) or "their names stand in another order"


def _members(machine: str, old: MachineState, assigned: Mapping[str, Any]) -> list[Step]:
    from perennial.platforms.hosts.keeper import as_one_service
    from perennial.platforms.hosts.machine_services import from_json, members

    before, after = from_json(old.assigned or {}), from_json(assigned)
    init = after.target.init or old.init
    prints = old.services or fingerprints(before, init), fingerprints(after, init)
    if init == "supervisord":
        before = replace(before, services=as_one_service(before.services))
        after = replace(after, services=as_one_service(after.services))
    # Which members the scaler has chosen is not known here, and they stay.
    chosen = [group for group in after.scaled if group in before.scaled]
    # A count in the file is a first size: unchanged, the size belongs to `perennial scale`.
    sizes: dict[str, Size] = {
        group: sum(name.startswith(f"{group}-{machine}-") for name in old.members)
        for group, count in after.counts.items()
        if old.members and (before.counts.get(group) == count or group in after.scaled)
    }
    sizes |= dict.fromkeys(chosen, ())
    have, want = members(before, sizes), members(after, sizes)
    changed = {name for name in prints[1] if prints[0].get(name) != prints[1][name]}
    found = []
    for name, service in want.items():
        if name not in have:
            found.append(Step("create", machine, name, "new"))
        elif (service.group or service.name) in changed:
            found.append(Step("restart", machine, name, "changed", _impact(service)))
    # Which members of these groups there are, the scaler has chosen.
    found += [
        Step("restart", machine, name, "each member changed", Impact.DRAINED)
        for name in chosen
        if name in changed
    ]
    gone = [name for name in have if name not in want]
    return found + [
        Step("delete", machine, name, "no longer in the cluster file", _impact(have[name]))
        for name in gone
    ]


def fingerprints(assigned: MachineServices, init: str | None) -> dict[str, str]:
    """Return the fingerprint of each group and service, before the machine's facts are known."""
    from perennial.platforms.hosts.keeper import as_one_service
    from perennial.services import fingerprint

    parts = as_one_service(assigned.services) if init == "supervisord" else assigned.services
    return {part.group or part.name: fingerprint(part) for part in parts}


def _impact(service: Service) -> Impact:
    return Impact.DRAINED if service.group else IMPACTS.get(service.name, Impact.NONE)
