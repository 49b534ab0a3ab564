"""What shall stand on a machine: files, folders, users and members. Pure.

`MachineServices` says what runs there; here it becomes the text of its service manager, once the
machine's own facts are known.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePath
from typing import Literal

from perennial import render
from perennial.paths import ClusterPaths, supervisord_folder
from perennial.platforms.hosts.agent import answers
from perennial.platforms.hosts.agent.answers import FileState, Folder
from perennial.platforms.hosts.keeper import as_one_service
from perennial.platforms.hosts.machine_services import Size, numbers
from perennial.platforms.hosts.program import with_program
from perennial.platforms.hosts.programs import FOLDER, MARK
from perennial.services import Service, fingerprint
from perennial.supervision.program import Program, health, held
from perennial.supervision.supervisor import command, started_as

Init = Literal["systemd", "supervisord"]
#: What starts a user's supervisord at boot; nothing where the user may have neither.
Boot = Literal["unit", "crontab", ""]

#: Open files of supervisord's programs: each worker holds a connection to every other one.
OPEN_FILES = 65536


@dataclass(frozen=True, slots=True)
class Placed:
    """A file as it shall be."""

    #: Where, and what is in it.
    path: str
    text: str
    #: Its permissions.
    mode: int = 0o644
    #: The system user that it belongs to; None for whoever writes it.
    owner: str | None = None

    @property
    def state(self) -> FileState:
        """Digest, mode and owner, as the machine reports them."""
        return [hashlib.sha256(self.text.encode()).hexdigest(), self.mode, self.owner]


@dataclass(frozen=True, slots=True)
class Home:
    """Where the clusters of a user without root are on a machine."""

    #: Their folder, in the place of `perennial.services.FOLDER`.
    folder: str
    #: Folder of the user's own systemd units.
    units: str
    #: What starts a supervisord at boot.
    boot: Boot
    #: The machine's own id, for units in a home folder that several machines share.
    machine: str

    def paths(self, cluster: str) -> ClusterPaths:
        """Folder of a cluster's supervisord."""
        return ClusterPaths(Path(self.folder, cluster, "supervisord"))


@dataclass(frozen=True, slots=True)
class DesiredMember:
    """A member as a machine knows it."""

    #: Dask's name of it, or ``scheduler`` or ``jupyter``.
    name: str
    #: Changes with everything for which its process must be replaced.
    fingerprint: str
    #: The worker group.
    group: str | None
    #: Its worker processes; 0 for another service.
    processes: int = 0


@dataclass(frozen=True, slots=True)
class DesiredState:
    """What shall stand on a machine."""

    #: Its service manager.
    init: Init
    #: All files of ours.
    files: tuple[Placed, ...]
    #: ``path``, ``mode`` and ``owner`` of the folders to be made.
    folders: tuple[Folder, ...]
    #: System users and their home folders.
    users: Mapping[str, str]
    #: What shall run, by unit or program, in the order of starting.
    members: Mapping[str, DesiredMember]
    #: systemd's names of what is installed.
    units: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    #: supervisord's programs.
    programs: tuple[Program, ...] = ()
    #: supervisord's groups whose members a keeper starts: what stands before their numbers.
    scaled_programs: Mapping[str, str] = field(default_factory=dict)
    #: The line of the user's crontab that starts supervisord; empty for none.
    crontab: str = ""


@dataclass(frozen=True, slots=True)
class Steps:
    """What is to be done to the members on a machine."""

    #: Units or programs.
    start: tuple[str, ...]
    restart: tuple[str, ...]
    stop: tuple[str, ...]


def desired_state(
    cluster: str,
    parts: Sequence[Service],
    sizes: Mapping[str, Size],
    secrets: Mapping[str, str],
    home: Home | None = None,
    watch: tuple[str, float] = ("", 0.0),
) -> DesiredState:
    """Return what shall stand on a machine: in the system's folders, or in a user's home folder."""
    parts = as_one_service(parts) if home else with_program(parts)
    marked = {part.name: fingerprint(part) for part in parts}
    parts = [_marked(part, marked[part.name]) for part in parts]
    if home is None:
        return _systemd(cluster, parts, marked, sizes, secrets)
    return _supervisord(cluster, parts, marked, sizes, (secrets, watch, home))


def steps(wanted: DesiredState, found: Mapping[str, answers.Member]) -> Steps:
    """Compare the members that shall run with those that do."""
    alive = {name for name, now in found.items() if now["pid"]}
    running = {name for name in alive if found[name]["fingerprint"]}
    changed = tuple(
        name
        for name, member in wanted.members.items()
        if name in running and found[name]["fingerprint"] != member.fingerprint
    )
    return Steps(
        start=tuple(
            name
            for name in wanted.members
            if name not in changed
            and (name not in alive or found[name]["state"] not in ("active", "reloading"))
        ),
        restart=changed,
        stop=tuple(sorted(alive - set(wanted.members) - set(wanted.targets))),
    )


def _marked(part: Service, mark: str) -> Service:
    environment = (*part.command.environment, ("PERENNIAL_FINGERPRINT", mark))
    return replace(part, command=replace(part.command, environment=environment))


def _systemd(
    cluster: str,
    parts: Sequence[Service],
    marked: Mapping[str, str],
    sizes: Mapping[str, Size],
    secrets: Mapping[str, str],
) -> DesiredState:
    counts = {name: size if isinstance(size, int) else None for name, size in sizes.items()}
    texts = render.systemd(parts, cluster, counts)
    folders: list[Folder] = []
    for part in parts:
        for path in part.access.writes:
            if not render.is_state(path):
                user = render.user(cluster, part)
                folders.append({"path": path, "mode": 0o700, "owner": user})
    members: dict[str, DesiredMember] = {}
    for part in parts:
        for unit, name in _instances(cluster, part, sizes):
            members[unit] = DesiredMember(
                name, marked[part.name], part.group, len(_registers(part))
            )
    own = [PurePath(path).name for path in texts if path.startswith(f"{render.UNITS}/")]
    top = render.target_name(cluster)
    targets = [name for name in own if name.endswith(".target") and name != top]
    return DesiredState(
        init="systemd",
        files=(
            *(Placed(path, text) for path, text in texts.items()),
            *(Placed(path, text, 0o600) for path, text in secrets.items()),
        ),
        folders=tuple(folders),
        users=render.users(cluster, parts),
        members=members,
        units=tuple(name for name in own if name.endswith((".service", ".slice"))),
        targets=(top, *targets),
    )


def _instances(cluster: str, part: Service, sizes: Mapping[str, Size]) -> list[tuple[str, str]]:
    """Names of the units of a service, and of its members."""
    unit = render.unit_name(cluster, part)
    if part.group is None:
        return [(unit, part.name)]
    return [
        (unit.replace("@", f"@{index}"), part.member(str(index)).name)
        for index in numbers(sizes[part.group])
    ]


def _supervisord(
    cluster: str,
    parts: Sequence[Service],
    marked: Mapping[str, str],
    sizes: Mapping[str, Size],
    how: tuple[Mapping[str, str], tuple[str, float], Home],
) -> DesiredState:
    secrets, watch, home = how
    paths = home.paths(cluster)
    python = parts[0].command.argv[0]
    holder = (python, "-I", "-m", started_as("hold"))
    members: dict[str, DesiredMember] = {}
    programs = [health(paths, python, *watch)]
    scaled = {part.group: part for part in parts if part.group and _is_kept(sizes[part.group])}
    parts = [_kept_by_itself(part, paths) if part.role == "keeper" else part for part in parts]
    for part in parts:
        for index in numbers(1 if part.group is None else sizes[part.group]):
            member = part if part.group is None else part.member(str(index))
            members[member.name] = DesiredMember(member.name, marked[part.name], part.group)
            program = held(member, paths, holder, marked[part.name])
            programs.append(replace(program, group=part.group, registers=_registers(member)))
    written = {path for part in parts for path in part.access.writes}
    longest = max((part.lifecycle.stop_timeout for part in parts), default=0.0)
    unit = _unit(cluster, home, python, longest + 30.0) if home.boot == "unit" else None
    folders = [str(paths.root), *sorted(path for path in written if path != str(paths.root))]
    return DesiredState(
        init="supervisord",
        files=(
            *(Placed(file.path, file.text, 0o600) for part in parts for file in part.files),
            *(_kept_program(part, paths, holder, marked[part.name]) for part in scaled.values()),
            *([unit] if unit else []),
            *(Placed(path, text, 0o600) for path, text in secrets.items()),
        ),
        folders=tuple({"path": path, "mode": 0o700, "owner": None} for path in folders),
        users={},
        members=members,
        units=(PurePath(unit.path).name,) if unit else (),
        targets=(),
        programs=tuple(programs),
        scaled_programs={group: part.member("").name for group, part in scaled.items()},
        crontab=_crontab(paths, python) if home.boot == "crontab" else "",
    )


def _is_kept(size: Size) -> bool:
    """Whether a keeper starts the members, which are then listed by number."""
    return not isinstance(size, int)


def _kept_by_itself(keeper: Service, paths: ClusterPaths) -> Service:
    """Let a keeper connect to the supervisord that has started it."""
    argv = (*keeper.command.argv, str(paths.root))
    return replace(keeper, command=replace(keeper.command, argv=argv))


def _kept_program(part: Service, paths: ClusterPaths, holder: Sequence[str], mark: str) -> Placed:
    """Write a group's program for its keeper, with a mark in the place of a member's number."""
    [config] = (file.path for file in part.files)
    path = PurePath(config).parent / FOLDER / f"{part.group}.conf"
    return Placed(str(path), held(part.member(MARK), paths, holder, mark).text, 0o600)


def _unit(cluster: str, home: Home, python: str, stop_timeout: float) -> Placed:
    """Write the user's unit that starts supervisord at boot."""
    paths = home.paths(cluster)
    text = render.boot_unit(
        cluster=cluster,
        configuration=str(paths.supervisord_conf),
        argv=command(paths.supervisord_conf, "--nodaemon", python=python),
        system=False,
        stop_timeout=stop_timeout,
        directory=supervisord_folder(paths),
        machine=home.machine,
    )
    # A home folder that several machines share has a unit for each of them.
    name = f"dask-{cluster}-{PurePath(home.folder).name}.service"
    return Placed(f"{home.units}/{name}", text)


def _crontab(paths: ClusterPaths, python: str) -> str:
    """Write the line of the user's crontab that starts supervisord at boot."""
    argv = command(paths.supervisord_conf, python=python)
    return render.boot_crontab(argv, supervisord_folder(paths), OPEN_FILES)


def _registers(member: Service) -> tuple[str, ...]:
    """Names under which a member's processes register with the scheduler."""
    if member.role != "worker":
        return ()
    processes = int(member.command.argv[member.command.argv.index("--nworkers") + 1])
    if processes == 1:
        return (member.name,)
    return tuple(f"{member.name}-{process}" for process in range(processes))


def request(desired: DesiredState, conf: str, pages: str) -> dict[str, object]:
    """Write the request to `perennial.supervision.run_once`."""
    programs = [asdict(program) for program in desired.programs]
    for program in programs:
        del program["files"]
        program["ports"] = ()  # JupyterLab is waited for at the machine's own address
    return {
        "programs": programs,
        "conf": conf,
        "dashboard": pages or None,
        "kept": dict(desired.scaled_programs),
    }
