"""Takes away what a lab left: processes, namespaces, control groups, its folder.

A lab's things carry its name, which has the process id of its maker in it. As a program, this
file waits until its input ends, which the maker's death brings about however it died, and then
takes the lab away. What survives that is taken away by the next lab that is made here.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_NAMESPACES = Path("/run/netns")
_CGROUPS = Path("/sys/fs/cgroup")
_PROCESSOR = _CGROUPS / "cpu"
_NAME = re.compile(r"plab(\d+)-\d+")
_numbers = itertools.count()


def new_lab() -> str:
    """Give a name for a lab that this process makes; takes away what dead ones left."""
    sweep_stale()
    return f"plab{os.getpid()}-{next(_numbers)}"


def folder_of(lab: str) -> Path:
    """Give the folder in which a lab keeps everything."""
    return Path(tempfile.gettempdir()) / lab


def namespaces_of(lab: str) -> list[str]:
    """List the network namespaces of a lab."""
    found = _NAMESPACES.glob(f"{lab}-*") if _NAMESPACES.is_dir() else ()
    return sorted(path.name for path in found)


def processes_of(namespace: str) -> list[int]:
    """List the processes whose network this is."""
    done = subprocess.run(
        ["ip", "netns", "pids", namespace], check=False, capture_output=True, text=True
    )
    return [int(pid) for pid in done.stdout.split()]


def make_cgroups(name: str) -> list[Path]:
    """Make a control group of this name in each hierarchy in which systemd keeps its units.

    Machines that shared one would stop each other's services.
    """
    made = []
    for root in _hierarchies():
        group = root / name
        group.mkdir(exist_ok=True)
        made.append(group)
    return made


def remove_cgroups(prefix: str, timeout: float = 10.0) -> None:
    """Remove the control groups whose names begin so, as soon as their processes are gone."""
    deadline = time.monotonic() + timeout
    roots = (*_hierarchies(), _PROCESSOR)
    while groups := [group for root in roots for group in root.glob(f"{prefix}*")]:
        for group in groups:
            for folder, _, _ in os.walk(group, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)


def confine(name: str, part: float) -> None:
    """Give the processes of a control group, and all they will start, a part of one processor.

    Needs the processor's own hierarchy, which cgroup v1 has.
    """
    group = _PROCESSOR / name
    group.mkdir(exist_ok=True)
    period = int((group / "cpu.cfs_period_us").read_text())
    (group / "cpu.cfs_quota_us").write_text(str(int(part * period)))
    for pid in grouped(name):
        with contextlib.suppress(ProcessLookupError):
            (group / "cgroup.procs").write_text(str(pid))


def sweep(lab: str) -> None:
    """Take a lab away."""
    namespaces = namespaces_of(lab)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        # A container's first process outlives the program that holds the container.
        alive = [pid for namespace in namespaces for pid in processes_of(namespace)]
        alive += grouped(f"{lab}-")
        if not alive:
            break
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    for namespace in namespaces:
        subprocess.run(["ip", "netns", "del", namespace], check=False, capture_output=True)
    remove_cgroups(f"{lab}-")
    shutil.rmtree(folder_of(lab), ignore_errors=True)


def sweep_stale() -> None:
    """Take away the labs whose makers are dead."""
    roots = (_NAMESPACES, Path(tempfile.gettempdir()), *_hierarchies())
    places = [place for root in roots for place in root.glob("plab*")]
    names = {found[0]: int(found[1]) for place in places if (found := _NAME.match(place.name))}
    for lab, maker in names.items():
        if not Path(f"/proc/{maker}").exists():
            sweep(lab)


def grouped(prefix: str) -> list[int]:
    """List the processes in the control groups whose names begin so."""
    found: set[int] = set()
    for root in _hierarchies():
        for group in root.glob(f"{prefix}*"):
            for folder, _, _ in os.walk(group):  # another test's sweep may remove them meanwhile
                with contextlib.suppress(OSError):
                    found.update(map(int, Path(folder, "cgroup.procs").read_text().split()))
    return sorted(found)


def _hierarchies() -> list[Path]:
    """Find this process's own control group, in each hierarchy that systemd uses."""
    own = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        own[controllers if number != "0" else "unified"] = path.lstrip("/")
    if (_CGROUPS / "cgroup.controllers").exists():
        return [_CGROUPS / own.get("unified", "")]
    candidates = (
        _CGROUPS / "systemd" / own.get("name=systemd", ""),
        _CGROUPS / "unified" / own.get("unified", ""),
    )
    return [path for path in candidates if (path / "cgroup.procs").exists()]


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.stdin.read()
    sweep(sys.argv[1])
