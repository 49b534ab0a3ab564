"""What a cluster file asks of this machine that the machine does not have."""

from __future__ import annotations

import importlib.util
import ipaddress
import json
import os
import resource
import shlex
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

from perennial.capacity import MachineResources
from perennial.errors import Fault
from perennial.owners import untrusted_part
from perennial.paths import fault_of_owner, state_home
from perennial.platforms.local import processes as needs
from perennial.platforms.local.layout import interpreter
from perennial.platforms.local.machine import this_machine
from perennial.platforms.local.ports import faults_of_address, faults_of_ports
from perennial.spec import ClusterSpec
from perennial.spec.units import about
from perennial.spec.words import one_line, plural, show
from perennial.supervision import processes
from perennial.supervision.supervisor import inherited

#: Seconds in which an interpreter must say what it has.
PROBE_TIMEOUT = 20.0
LEAST_DISK = 2**30

_SERVICES = ("perennial", "dask", "distributed")
_JUPYTER = ("jupyterlab", "dask_labextension", "jupyter_server_proxy", "bokeh")
_PROBE = (
    "import importlib.util, json, sys\n"
    "missing = [name for name in sys.argv[1:] if importlib.util.find_spec(name) is None]\n"
    "print(json.dumps([sys.version_info >= (3, 11), missing]))"
)


def faults_of_machine(
    spec: ClusterSpec, own_pids: Collection[int] = frozenset()
) -> tuple[list[Fault], list[Fault]]:
    """Compare a cluster file for the platform ``local`` with this machine. Changes nothing."""
    address = list(faults_of_address(spec))
    # What runs of the cluster already is among what the user has.
    number = 0 if own_pids else processes.used()
    few, close = needs.faults(spec, processes.limit(), number)
    errors = [
        *address,
        *(() if address else faults_of_ports(spec, own_pids)),
        *_folders(spec),
        *_interpreter(spec),
        *few,
    ]
    machine = this_machine()
    warnings = [*sizes(spec, machine), *_open_to_others(spec), *_disk(spec), *_limits(), *close]
    return errors, warnings


def sizes(spec: ClusterSpec, machine: MachineResources) -> Iterator[Fault]:
    """Compare what the workers may use with what a machine has."""
    processes = sum(group.count * group.processes for group in spec.workers.values())
    memory = sum(g.count * g.processes * g.memory for g in spec.workers.values())
    threads = sum(g.count * g.processes * g.threads for g in spec.workers.values())
    if memory > machine.memory:
        yield Fault(
            "workers",
            f"{about(memory)} of memory for {plural(processes, 'worker')}",
            f"up to {about(machine.memory)}, this machine's memory",
            "lower count, processes or memory",
        )
    if threads > 2 * machine.cores:
        yield Fault(
            "workers",
            f"{plural(threads, 'thread')} in {plural(processes, 'worker')}",
            f"up to {2 * machine.cores}, twice this machine's cores",
            "lower count, processes or threads",
        )


def _open_to_others(spec: ClusterSpec) -> Iterator[Fault]:
    if spec.security.tls:
        return
    try:
        loopback = ipaddress.ip_address(spec.options.address).is_loopback
    except ValueError:
        loopback = False
    who = "every user of this machine" if loopback else "ANYBODY ON THE NETWORK"
    yield Fault(
        "security.tls",
        f"false: {who} can run code as you through port {spec.scheduler.port}",
        "true",
        "write `tls: true`",
    )


def _folders(spec: ClusterSpec) -> Iterator[Fault]:
    if spec.jupyter is not None:
        yield from _writable("jupyter.directory", spec.jupyter.directory)
    if spec.options.temporary_directory is not None:
        yield from _writable("local.temporary_directory", spec.options.temporary_directory)
        yield from _own(Path(spec.options.temporary_directory, f"perennial-{spec.name}"))


def _limits() -> Iterator[Fault]:
    """Warn of limits of this shell that the services cannot raise and would end by."""
    for limit, flag, what in (
        (resource.RLIMIT_CPU, "t", "seconds of processor time"),
        (resource.RLIMIT_FSIZE, "f", "bytes in a file"),
        (resource.RLIMIT_AS, "v", "bytes of address space"),
    ):
        _, hard = resource.getrlimit(limit)
        if hard != resource.RLIM_INFINITY:
            yield Fault(
                "local",
                f"a limit of this shell: {hard} {what} for each process (`ulimit -H{flag}`)",
                "none: a service that reaches it is ended or fails",
                "start the cluster from a session without it",
            )


def _own(folder: Path) -> Iterator[Fault]:
    """Refuse a folder for spilled data that somebody else made first, or may change."""
    if fault := fault_of_owner(folder):
        found = f"{one_line(str(folder))}: {fault}"
        allowed = "a folder that is yours alone, or one in which perennial makes it"
        yield Fault("local.temporary_directory", found, allowed, "remove it or name another folder")


def _writable(key: str, folder: str) -> Iterator[Fault]:
    path = Path(os.path.expanduser(folder))
    if not path.is_absolute():
        yield Fault(key, show(folder), "an absolute path", "begin it with /")
        return
    place = _existing(path)
    if not place.is_dir():
        yield Fault(key, f"{one_line(str(place))}, which is a file", "a folder", f"change {key}")
    elif not os.access(place, os.W_OK | os.X_OK):
        found = f"{one_line(str(place))}, where this user may not write"
        yield Fault(key, found, "a folder that this user may write to", f"change {key}")


def _existing(path: Path) -> Path:
    """Find the path itself, or the nearest folder above it that exists."""
    return next(place for place in (path, *path.parents) if os.path.lexists(place))


def _disk(spec: ClusterSpec) -> Iterator[Fault]:
    folder = Path(spec.options.temporary_directory or state_home())
    place = _existing(folder) if folder.is_absolute() else folder
    free = shutil.disk_usage(place).free if place.is_dir() else LEAST_DISK
    if free < LEAST_DISK:
        yield Fault(
            "local.temporary_directory",
            f"{about(free)} of free disk for {one_line(str(folder))}",
            f"at least {about(LEAST_DISK)}, for what workers spill",
            "free some or name a folder on another disk",
        )


def _interpreter(spec: ClusterSpec) -> Iterator[Fault]:
    python = spec.environment.python or sys.executable
    if foreign := untrusted_interpreter(spec):
        yield foreign
        return
    names = (*_SERVICES, *(_JUPYTER if spec.jupyter is not None else ()))
    missing: list[str] | Fault
    if os.path.abspath(python) == os.path.abspath(sys.executable):
        missing = [name for name in names if importlib.util.find_spec(name) is None]
    else:
        missing = _probe(python, names)
    if isinstance(missing, Fault):
        yield missing
        return
    install = f"`{shlex.quote(one_line(python))} -m pip install"
    if lacking := [name for name in missing if name in _SERVICES]:
        yield Fault(
            "environment.python",
            f"{one_line(python)} without {_packages(lacking)}",
            "an interpreter with dask-perennial installed",
            f"run {install} dask-perennial`",
        )
    if lacking := [name for name in missing if name in _JUPYTER]:
        yield Fault(
            "jupyter",
            f"{one_line(python)} without {_packages(lacking)}",
            "an interpreter with JupyterLab installed, or `jupyter: null`",
            f"run {install} 'dask-perennial[jupyter]'`",
        )


def untrusted_interpreter(spec: ClusterSpec) -> Fault | None:
    """Refuse to run as root what others can change; the interpreter that runs this already does."""
    python = spec.environment.python
    own = {os.path.abspath(sys.executable), interpreter()}
    if os.geteuid() != 0 or python is None or os.path.abspath(python) in own:
        return None
    part = untrusted_part(python)
    if part is None:
        return None
    return Fault(
        "environment.python",
        f"{one_line(python)}, which root would run, and {one_line(part)}",
        "an interpreter that root alone can change, with every folder above it",
        "run `perennial` as another user than root, or name another interpreter",
    )


def _packages(modules: list[str]) -> str:
    known = {"perennial": "dask-perennial"}
    return ", ".join(known.get(name, name.replace("_", "-")) for name in modules)


def _probe(python: str, names: tuple[str, ...]) -> list[str] | Fault:
    """Ask an interpreter which modules it lacks, in the environment that services get."""
    problem = ""
    try:
        done = subprocess.run(
            [python, "-c", _PROBE, *names],
            env=inherited(os.environ),
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROBE_TIMEOUT,
            check=False,
        )
        recent, missing = json.loads(done.stdout)
        if recent:
            return list(missing)
        problem = "older than Python 3.11"
    except OSError as error:
        problem = (error.strerror or "not to be started").lower()
    except subprocess.TimeoutExpired:
        problem = f"silent for {PROBE_TIMEOUT:g} s"
    except (ValueError, TypeError):
        problem = "no Python interpreter"
    return Fault(
        "environment.python",
        f"{one_line(python)}: {problem}",
        "a Python interpreter, 3.11 or later, with dask-perennial installed",
        "correct the path",
    )
