"""Change a machine into what the cluster file asks of it, and look what became of it.

Every function opens one SSH connection and is whole again when it is run again after it was
cut off anywhere. What shall be is decided here; what is done there stands in
`perennial.platforms.hosts.agent`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from perennial.contracts import Lost
from perennial.errors import FleetError
from perennial.plan import ABANDONED
from perennial.platforms.hosts import issuing
from perennial.platforms.hosts.actors import losses
from perennial.platforms.hosts.agent.answers import FileState, Look, Manifest, Outcome, Written
from perennial.platforms.hosts.checks import check, look, manager
from perennial.platforms.hosts.desired_state import (
    DesiredState,
    Home,
    Placed,
    Steps,
    desired_state,
    request,
    steps,
)
from perennial.platforms.hosts.drift import (
    drift,
    kept_programs,
    main_file,
    outdated,
    own_files,
    reads,
    spoilt,
)
from perennial.platforms.hosts.machine_services import MachineServices, Target
from perennial.platforms.hosts.ownership import NOBODY, Owner
from perennial.platforms.hosts.programs import MARK
from perennial.platforms.hosts.provision import (
    look_environment,
    make_environment,
    remove_environment,
)
from perennial.platforms.hosts.remote import Agent, borrowed
from perennial.platforms.hosts.secrets import Secrets
from perennial.platforms.hosts.standing_members import chosen, counted
from perennial.platforms.hosts.starting import start_in_steps
from perennial.services import Service

__all__ = [
    "apply_services",
    "look_environment",
    "look_services",
    "make_environment",
    "reach",
    "remove_environment",
    "remove_services",
    "stop_scheduler",
]

Say = Callable[[str], None]
#: Gives the context in which one member of a group may be away.
Turn = Callable[[str], AbstractContextManager[object]]

#: Seconds in which Jupyter must listen.
JUPYTER = 90.0


def reach(target: Target, say: Say) -> None:
    """Log in to a machine, so that whatever fails afterwards has begun there.

    This alone waits for one that is starting: whoever only looks is told at once.
    """
    with borrowed(target, say, waits=True):
        pass


def apply_services(
    assigned: MachineServices,
    secrets: Secrets,
    say: Say,
    turn: Turn = lambda _group: nullcontext(),
    scaled: Mapping[str, int] | None = None,
    lost: Lost | None = None,
    owner: Owner = NOBODY,
) -> Outcome:
    """Change what runs on a machine into its services; ``owner`` alone removes it later.

    Only members whose fingerprint changed restart, one after another, each drained. New
    members start before old ones leave, so that data has somewhere to go. What members abandon
    is reported, where nobody else takes it, in a line of its own.
    """
    lost = lost or _reporting(say)
    with alone(assigned, say) as agent:
        found = look(agent, assigned)
        init = manager(assigned, found)
        check(assigned, found, owner)
        home = None if assigned.target.needs_root else _home(agent, found, say)
        manifest = found["manifest"]
        now = chosen(assigned, manifest, found["members"]) | dict(scaled or {})
        folder = found["folder"]
        parts = [part.at(found["address"], found["python"], folder) for part in assigned.services]
        issued = issuing.issue(assigned, found, secrets, parts)
        wanted = desired_state(
            *(assigned.cluster, parts, now, issued.files, home),
            watch=(agent.here(assigned.pages), assigned.watchdog),
        )
        _put(agent, (assigned, parts), wanted, found, issued.renewed, owner)
        agent.ask(
            "keep", cluster=assigned.cluster, numbers={name: now[name] for name in assigned.scaled}
        )
        if not manifest:  # what runs all the same could not be seen without one
            found["members"] = agent.ask("members", cluster=assigned.cluster)
        todo = steps(wanted, found["members"])
        todo = _more(todo, [unit for unit in outdated(found) if unit in wanted.members])
        if init == "systemd":
            # Under supervisord they read the files themselves, now and then, and no copies.
            todo = _with_renewed(todo, wanted, parts, issued.renewed)
            gone = set(manifest.get("targets", ())) - set(wanted.targets)
            todo = replace(todo, stop=(*todo.stop, *sorted(gone)))
        _change(agent, (assigned, home), wanted, (todo, found), turn, lost)
        _await_jupyter(agent, parts, todo)
        agent.ask(
            "finish",
            cluster=assigned.cluster,
            files=[file.path for file in wanted.files],
            users=list(wanted.users),
            remember={
                **_manifest(assigned, wanted, found["files"], home),
                "sizes": counted(now),
                "certificates": issued.remember,
                "reads": reads(assigned.cluster, init, parts),
            },
            environment=str(PurePath(parts[0].command.argv[0]).parents[1]) if parts else None,
        )
    return {
        "init": init,
        "address": found["address"],
        "machine": found["machine"],
        "members": {member.name: member.fingerprint for member in wanted.members.values()},
        "expires": issued.expires,
    }


def _home(agent: Agent, found: Look, say: Say) -> Home:
    """Ask where the clusters of a user without root are; say what that user cannot have."""
    home = Home(**agent.ask("settle"), machine=found["machine"])
    if not home.boot:
        say(
            "neither lingering nor a crontab is allowed there: after a reboot `perennial up`"
            " or `pulumi up` starts the services again"
        )
    return home


def _manifest(
    assigned: MachineServices,
    wanted: DesiredState,
    files: Mapping[str, FileState],
    home: Home | None,
) -> Manifest:
    """Return what the machine remembers of the services that it now runs."""
    fixed = {u: m for u, m in wanted.members.items() if m.group not in assigned.scaled}
    return {
        "declared": dict(assigned.counts),
        "kept": dict(assigned.scaled),
        "members": {unit: member.fingerprint for unit, member in fixed.items()},
        "expected": {file.path: _expected(file, files) for file in wanted.files},
        "outdated": {},
        "kept_programs": kept_programs(wanted),
        "mark": MARK,
        "programs": own_files(wanted, home.paths(assigned.cluster)) if home else {},
    }


def look_services(assigned: MachineServices, outcome: Outcome) -> list[str]:
    """Compare a machine with what was deployed to it; one line for each difference."""
    with borrowed(assigned.target) as agent:
        return drift(assigned.cluster, look(agent, assigned), outcome)


def remove_services(assigned: MachineServices, say: Say, owner: Owner = NOBODY) -> list[str]:
    """Stop what runs on a machine, drained, and remove all that is the cluster's, or an owner's.

    What members abandon is reported as `apply_services` does.
    """
    with alone(assigned, say) as agent:
        if _is_others(agent, assigned, owner):
            return []
        return _remove(agent, assigned, _reporting(say), owner=owner.resource or None)


def _is_others(agent: Agent, assigned: MachineServices, owner: Owner) -> bool:
    """Whether another stack has taken over what is there; nobody asks where none would mind."""
    return bool(owner.stack and owner.other_stack(agent.ask("manifest", cluster=assigned.cluster)))


def _remove(agent: Agent, assigned: MachineServices, lost: Lost, **asked: Any) -> list[str]:
    """Take all of a cluster off a machine; returns what stays there."""
    there = sorted(agent.ask("members", cluster=assigned.cluster))
    # Where members write down what they abandon is removed as well: it is read in between.
    with losses(agent, assigned, there, lost):
        ours = agent.ask("take_down", cluster=assigned.cluster, owner=asked.get("owner"))
    left: list[str] = agent.ask("remove", cluster=assigned.cluster, **asked) if ours else []
    return left


def _reporting(say: Say) -> Lost:
    """Report what members abandon in lines, see `perennial.plan.ABANDONED`."""
    return lambda member, what: say(f"{member}{ABANDONED}{what}")


def stop_scheduler(assigned: MachineServices, say: Say, owner: Owner) -> None:
    """Stop the scheduler before all is taken down: with it no drain has a meaning.

    The scaler stops before it, so that it replaces nobody.
    """
    with borrowed(assigned.target, say) as agent:
        if _is_others(agent, assigned, owner):
            return
        found = agent.ask("members", cluster=assigned.cluster)
        for name in ("scaler", "scheduler"):
            unit = f"dask-{assigned.cluster}-{name}.service"
            if unit in found:
                agent.ask("systemd_stop", units=[unit])
            elif name in found:
                agent.ask("supervisord_end", cluster=assigned.cluster, name=name)


@contextmanager
def alone(assigned: MachineServices, say: Say) -> Iterator[Agent]:
    """Let nobody else change the cluster's part of a machine meanwhile."""
    with borrowed(assigned.target, say) as agent:
        agent.ask("lock", cluster=assigned.cluster)
        yield agent
        agent.ask("unlock")


def _put(
    agent: Agent,
    what: tuple[MachineServices, Sequence[Service]],
    wanted: DesiredState,
    found: Look,
    renewed: Sequence[str],
    owner: Owner,
) -> None:
    """Bring the files there, those that differ."""
    assigned, parts = what
    notebooks = [part.command.directory for part in parts if part.role == "jupyter"]
    gone = set(found["manifest"].get("units", ())) - set(wanted.units)
    agent.ask(
        "begin",
        cluster=assigned.cluster,
        files=[file.path for file in wanted.files],
        folders=list(wanted.folders),
        users=[{"name": name, "home": home} for name, home in wanted.users.items()],
        remember={
            "init": wanted.init,
            **owner.remembered,
            # What is no longer wanted is still there, until `finish`.
            "units": [*wanted.units, *sorted(gone)],
            "targets": list(wanted.targets),
            "folders": [folder["path"] for folder in wanted.folders],
            "notebooks": notebooks,
            "crontab": wanted.crontab,
            "outdated": outdated(found),
            "stop_timeout": max((p.lifecycle.stop_timeout for p in assigned.services), default=0.0),
        },
    )
    changed = [file for file in wanted.files if _differs(file, found["files"], renewed)]
    if changed:
        agent.ask("write", files=[_described(file) for file in changed])
    named = {*wanted.units, *wanted.targets}
    units = any(PurePath(file.path).name in named for file in changed)
    # A deploy that was cut off can have written units of which systemd has not heard.
    if units or gone or not found["manifest"].get("whole", True):
        agent.ask("systemd_reload")


def _differs(file: Placed, there: Mapping[str, FileState], renewed: Sequence[str]) -> bool:
    return file.path in renewed or there.get(file.path) != _expected(file, there)


def _expected(file: Placed, there: Mapping[str, FileState]) -> FileState:
    """Digest, mode and owner of a file; a key that stays has the content that it has there."""
    return file.state if file.text else [there[file.path][0], *file.state[1:]]


def _described(file: Placed) -> Written:
    return {"path": file.path, "text": file.text, "mode": file.mode, "owner": file.owner}


def _with_renewed(
    todo: Steps, wanted: DesiredState, parts: Sequence[Service], renewed: Sequence[str]
) -> Steps:
    """Restart what has read a certificate that is another one now."""
    if not renewed:
        return todo
    names = {part.group or part.name for part in parts if set(part.access.secrets) & set(renewed)}
    return _more(todo, [u for u, m in wanted.members.items() if (m.group or m.name) in names])


def _more(todo: Steps, units: Sequence[str]) -> Steps:
    """Restart some units as well."""
    more = [unit for unit in units if unit not in (*todo.start, *todo.restart)]
    return Steps(todo.start, (*todo.restart, *more), todo.stop)


def _change(
    agent: Agent,
    what: tuple[MachineServices, Home | None],
    wanted: DesiredState,
    now: tuple[Steps, Look],
    turn: Turn,
    lost: Lost,
) -> None:
    assigned, home = what
    if home is None:
        _change_systemd(agent, assigned, wanted, now[0], turn, lost)
        return
    with losses(agent, assigned, [*now[0].restart, *now[0].stop], lost):
        _change_supervisord(agent, (assigned, home), wanted, now, turn)


def _change_systemd(
    agent: Agent,
    assigned: MachineServices,
    wanted: DesiredState,
    todo: Steps,
    turn: Turn,
    lost: Lost,
) -> None:
    targets = list(wanted.targets)
    members = wanted.members
    if any(members[unit].name == "scheduler" for unit in todo.restart):
        # Its work is lost anyway, and everybody's data with it: no drain has a meaning.
        agent.ask("systemd_restart", units=list(todo.restart))
        todo = Steps(todo.start, (), todo.stop)
    start_in_steps(agent, todo.start, members, targets)
    for unit in todo.restart:
        with turn(members[unit].group or unit), losses(agent, assigned, [unit], lost):
            agent.ask("systemd_restart", units=[unit])
    with losses(agent, assigned, todo.stop, lost):
        agent.ask("systemd_stop", units=list(todo.stop))


def _change_supervisord(
    agent: Agent,
    what: tuple[MachineServices, Home],
    wanted: DesiredState,
    now: tuple[Steps, Look],
    turn: Turn,
) -> None:
    (assigned, home), (todo, found) = what, now
    paths = home.paths(assigned.cluster)
    asked = {
        **request(wanted, main_file(paths), agent.here(assigned.pages)),
        "again": list(todo.restart),
        "spoilt": spoilt(found, own_files(wanted, paths)),
    }

    def apply(*names: str) -> list[tuple[str, str]]:
        """Do all that waits for no turn, and replace the last member; says who still waits."""
        left: list[tuple[str, str]] = agent.ask(
            "supervisord_apply",
            cluster=assigned.cluster,
            python=agent.here(assigned.services[0].command.argv[0]),
            unit=next(iter(wanted.units), None),
            request={**asked, "turn": names},
        )
        return left

    left, done = apply(), []
    while left:
        name, group = left[0]
        with turn(group):
            done.append(name)
            left = apply(*done)


def _await_jupyter(agent: Agent, parts: Sequence[Service], todo: Steps) -> None:
    """Wait until JupyterLab, where it was started, listens."""
    part = next((part for part in parts if part.role == "jupyter"), None)
    if part is None or not any("jupyter" in unit for unit in (*todo.start, *todo.restart)):
        return
    (port,) = part.access.ports
    end = time.monotonic() + JUPYTER
    while not agent.ask("listens", port=port):
        if time.monotonic() > end:
            raise FleetError(
                f"{agent.name}: JupyterLab does not listen on port {port} after {JUPYTER:g} s; see"
                " `perennial logs jupyter`"
            )
        time.sleep(0.3)
