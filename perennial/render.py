"""From services to the text of a service manager's files: systemd units, supervisord programs.

Pure: the same services, the same bytes. The templates stand in `perennial.systemd` and
`perennial.supervisord`, see `perennial.templating`.
"""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import PurePath
from posixpath import basename

from perennial import quoting
from perennial.errors import PerennialError
from perennial.paths import SOCKET_PATH, is_long
from perennial.services import CREDENTIALS, INSTANCE, File, Service
from perennial.templating import rendered

_systemd, _supervisord = partial(rendered, "systemd"), partial(rendered, "supervisord")

UNITS = "/etc/systemd/system"
#: Below it systemd makes a service's folders itself.
STATE = "/var/lib"
_HOMES = ("/home/", "/root/", "/run/user/")
#: supervisord stops the programs with the highest numbers first.
_PRIORITIES = {"scaler": 950, "keeper": 940, "scheduler": 900}
_PRIORITY = 500
#: Roles whose processes run what the users have written.
_USERS_CODE = ("worker", "jupyter")


def systemd(
    parts: Sequence[Service], cluster: str, counts: Mapping[str, int | None]
) -> dict[str, str]:
    """Render the files with which systemd keeps services running, path and text.

    A slice and a target for the cluster, a unit for the scheduler and for Jupyter, a template
    unit and a target for each worker group, the users that they run as, and the configuration
    files of the services. The files are for the system's own systemd, at fixed paths.

    Parameters
    ----------
    parts : sequence of Service
        What runs on the machine; of a cluster on several machines only the machine's part.
    cluster : str
        The cluster's name.
    counts : mapping of str to int, or None
        Members of each group; they stand in the groups' targets alone. None for a group whose
        members a keeper starts.

    Raises
    ------
    PerennialError
        For a value that systemd cannot carry.
    """
    files: dict[str, str] = {}
    top = target_name(cluster)
    wanted = []
    for service in parts:
        group, unit = service.group, unit_name(cluster, service)
        if group is None:
            files |= _unit(service, cluster, unit, part_of=top)
            wanted.append(unit)
            continue
        target = target_name(cluster, group)
        files |= _unit(service, cluster, unit, part_of=target, wanted_by=target)
        count = counts[group]
        members = [unit.replace("@", f"@{index}") for index in range(count or 0)]
        files[f"{UNITS}/{target}"] = _systemd(
            "group.target.j2", cluster=cluster, group=group, members=members, kept=count is None
        )
        wanted.append(target)
    files[f"{UNITS}/{top}"] = _systemd("cluster.target.j2", cluster=cluster, units=wanted)
    files[f"{UNITS}/{slice_name(cluster)}"] = _systemd("cluster.slice.j2", cluster=cluster)
    files[f"/etc/sysusers.d/dask-{cluster}.conf"] = _systemd(
        "sysusers.conf.j2",
        cluster=cluster,
        users=users(cluster, parts),
    )
    return files


def program(service: Service, log: str | None = None) -> str:
    """Render the supervisord program of one service, for a file of its own.

    Parameters
    ----------
    service : Service
        A service; of a worker group, one member.
    log : str or None
        File for its output; None when the service writes its log itself.

    Raises
    ------
    PerennialError
        For a value that supervisord cannot carry.
    """
    if service.is_group:
        raise ValueError(f"{service.group}: a group has no program, only its members have")
    return _supervisord(
        "program.conf.j2",
        service=service,
        log=log,
        priority=_PRIORITIES.get(service.role, _PRIORITY),
    )


def event_listener(name: str, argv: Sequence[str], log: str) -> str:
    """Render a supervisord program that is sent an event every five seconds.

    Parameters
    ----------
    name : str
        The program's name.
    argv : sequence of str
        The program and its arguments.
    log : str
        File for its standard error; its standard output belongs to supervisord.
    """
    return _supervisord("listener.conf.j2", name=name, argv=argv, log=log)


def supervisord_conf(
    socket: PurePath, log: PurePath, units: PurePath, open_files: int = 1024, within: bool = False
) -> str:
    """Render the main file of a supervisord that runs as a daemon and opens no port.

    Parameters
    ----------
    socket : pathlib.PurePath
        Its socket; its pid file stands beside it.
    log : pathlib.PurePath
        Its log.
    units : pathlib.PurePath
        Folder of the programs, beside the main file.
    open_files : int
        Limit of open files for it and for every service. supervisord does not start where
        this is above the machine's hard limit.
    within : bool
        Whether supervisord is started in the folder of its socket, whose path may then be longer
        than a socket's may.

    Raises
    ------
    PerennialError
        For a folder in which supervisord finds no programs, or cannot make its socket.
    """
    if glob.escape(str(units)) != str(units):
        raise PerennialError(
            f"{units}: found *, ? or [ in the path, where supervisord finds no programs; choose"
            " another folder"
        )
    if not within and is_long(socket):
        raise PerennialError(
            f"{socket}: found {len(os.fsencode(socket))} bytes; the path of supervisord's socket"
            f" may have {SOCKET_PATH}; choose a folder nearer to the root"
        )
    return _supervisord(
        "supervisord.conf.j2",
        socket=f"/proc/self/cwd/{socket.name}" if within else str(socket),
        log=str(log),
        folder=str(units.parent),
        pidfile=str(socket.parent / "supervisord.pid"),
        # Relative to the main file: supervisord splits this setting at white space.
        units=units.name,
        open_files=open_files,
    )


def boot_unit(
    *,
    cluster: str,
    configuration: str,
    argv: Sequence[str],
    system: bool,
    stop_timeout: float,
    directory: str = "/",
    machine: str = "",
) -> str:
    """Render the systemd unit that starts a cluster's supervisord at boot.

    Parameters
    ----------
    cluster : str
        The cluster's name.
    configuration : str
        Main file of its supervisord.
    argv : sequence of str
        Command of the supervisord, not as a daemon.
    system : bool
        For the system's own systemd, not for a user's.
    stop_timeout : float
        Seconds that all services together may take to stop.
    directory : str
        Folder in which it is started.
    machine : str
        The id of the machine on which alone it is started; any when empty.
    """
    return _systemd(
        "boot.service.j2",
        cluster=cluster,
        configuration=configuration,
        argv=argv,
        system=system,
        stop_timeout=stop_timeout,
        directory=directory,
        machine=machine,
    )


def boot_crontab(argv: Sequence[str], directory: str, open_files: int) -> str:
    """Render the line of a user's crontab that starts a cluster's supervisord at boot.

    Parameters
    ----------
    argv : sequence of str
        Command of the supervisord, as a daemon.
    directory : str
        Folder in which it is started.
    open_files : int
        Limit of open files, where the machine allows that many.
    """
    return _supervisord("crontab.j2", argv=argv, directory=directory, open_files=open_files)


def unit_name(cluster: str, service: Service) -> str:
    """Name the systemd unit of a service; of a group the template of its members.

    Parameters
    ----------
    cluster : str
        The cluster's name.
    service : Service
        The service.
    """
    instance = service.name if service.group is None else f"{service.group}@"
    return f"dask-{cluster}-{instance}.service"


def target_name(cluster: str, group: str | None = None) -> str:
    """Name the systemd target of a cluster, or of a group of it.

    Parameters
    ----------
    cluster : str
        The cluster's name.
    group : str or None
        The group.
    """
    return f"dask-{cluster}.target" if group is None else f"dask-{cluster}-{group}.target"


def slice_name(cluster: str) -> str:
    """Name of a cluster's slice; a plain `-` in it would put it inside another slice."""
    return "dask-" + cluster.replace("-", "\\x2d") + ".slice"


def user(cluster: str, service: Service) -> str:
    """Name of the system user that runs a service under systemd.

    Jupyter has one of its own: who may run tasks cannot read notebooks and token.

    Parameters
    ----------
    cluster : str
        The cluster's name.
    service : Service
        The service.
    """
    if service.role == "keeper":
        return "root"
    return _user(cluster, jupyter=service.role == "jupyter")


def _user(cluster: str, jupyter: bool = False) -> str:
    name = f"dask-{cluster}-jupyter" if jupyter else f"dask-{cluster}"
    if len(name) <= 31:
        return name
    # A user's name has at most 31 letters; the digest keeps two clusters apart.
    return f"{name[:22]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def users(cluster: str, parts: Sequence[Service]) -> dict[str, str]:
    """List the system users that services run as, and their home folders.

    Parameters
    ----------
    cluster : str
        The cluster's name.
    parts : sequence of Service
        What runs on the machine. The scaler and others share a user; its home is theirs. A relay
        has none.
    """
    own = (part for part in parts if part.role != "relay")
    ordered = sorted(own, key=lambda part: part.role != "scaler")
    found = {user(cluster, part): home(part) for part in ordered}
    found.pop("root", None)
    return found


def home(service: Service) -> str:
    """Home folder of the user that runs a service under systemd: the first that it writes to."""
    return service.access.writes[0]


def _unit(
    service: Service, cluster: str, unit: str, part_of: str, wanted_by: str | None = None
) -> dict[str, str]:
    """Render one unit and the files that its service reads."""
    service = _with_credentials(service, unit)
    state = [path.removeprefix(f"{STATE}/") for path in service.access.writes if is_state(path)]
    touched = (service.command.argv[0], service.command.directory, *service.access.writes)
    text = _systemd(
        "keeper.service.j2" if service.role == "keeper" else "service.j2",
        service=service,
        unit=unit.replace(INSTANCE, "%i"),
        part_of=part_of,
        wanted_by=wanted_by,
        slice=slice_name(cluster),
        user=user(cluster, service),
        relay=_user(cluster),
        state=state,
        writes=[path for path in service.access.writes if not is_state(path)],
        home=any(f"{path}/".startswith(_HOMES) for path in touched),
        runs_code=service.role in _USERS_CODE,
    )
    for file in service.files:
        quoting.check_filled(file.text, file.path)
    return {f"{UNITS}/{unit}": text} | {file.path: file.text for file in service.files}


def _with_credentials(service: Service, unit: str) -> Service:
    """Let a service read its secrets where systemd puts the copies that it may read."""

    def fill(text: str, folder: str) -> str:
        for path in service.access.secrets:
            text = text.replace(path, f"{folder}/{basename(path)}")
        return text

    command, mark = service.command, CREDENTIALS
    return replace(
        service,
        command=replace(
            command,
            argv=tuple(fill(word, mark) for word in command.argv),
            environment=tuple((name, fill(value, mark)) for name, value in command.environment),
        ),
        # In a file nobody expands %d; this is what it stands for.
        files=tuple(
            File(file.path, fill(file.text, f"/run/credentials/{unit}")) for file in service.files
        ),
    )


def is_state(path: str) -> bool:
    """Whether systemd itself makes a folder and gives it to the service's user."""
    return path.startswith(f"{STATE}/")
