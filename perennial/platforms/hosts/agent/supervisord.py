"""Services of a cluster under a supervisord of its own, run by the cluster's system user.

supervisord is driven by the same code as on a local cluster (`perennial.supervision.part`), in the
cluster's own environment and with the rights of its user.
"""

from __future__ import annotations

import json
import math
import os
import pwd
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, cast

from perennial.errors import PerennialError
from perennial.platforms.hosts.agent import manifest, systemd
from perennial.supervision.hold import holder, is_ready
from perennial.supervision.supervisor import (
    Supervisor,
    polls,
    signal_process,
    started_as,
    wait_gone,
)

#: Seconds in which a supervisord that was started must answer.
ANSWER = 60.0


def root(cluster: str) -> Path:
    """Folder of the cluster's supervisord, its programs, logs and locks.

    It belongs to the cluster's user, so nothing in it is believed by root.
    """
    return manifest.STATE / cluster / "supervisord"


def unit(cluster: str) -> str:
    """Name of the systemd unit that starts supervisord at boot, where systemd is."""
    return f"dask-{cluster}-supervisord.service"


@contextmanager
def owners_rights(cluster: str) -> Iterator[Path]:
    """Look into the folder with the rights of whom it belongs to: any link may stand in it."""
    folder = root(cluster)
    uid, gid = 0, 0
    with suppress(FileNotFoundError):
        status = folder.lstat()  # nobody but root may replace the folder itself
        uid, gid = status.st_uid, status.st_gid
    if os.geteuid() != 0 or uid == 0:
        yield folder
        return
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(gid)
    os.seteuid(uid)
    try:
        yield folder
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def members(cluster: str) -> dict[str, dict[str, Any]]:
    """State, pid, restarts and fingerprint of each program."""
    known: dict[str, str] = {}
    with owners_rights(cluster) as folder:
        supervisor = Supervisor(folder / "supervisor.sock")
        if (folder / "supervisor.sock").exists() and supervisor.pid():
            known = {process.name: process.state for process in supervisor.processes().values()}
        names = sorted({*known, *(path.stem for path in (folder / "run").glob("*.lock"))})
        holders = {name: holder(folder / "run" / f"{name}.lock") for name in names}
    found = {}
    for name, (pid, starts) in holders.items():
        state = known.get(name, "without supervisord" if pid else "STOPPED")
        found[name] = {
            "state": "active" if state == "RUNNING" else state,
            "pid": pid,
            "restarts": max(starts - 1, 0),
            "fingerprint": systemd.fingerprint(pid) if pid else None,
        }
    found.pop("health", None)
    return found


def enabled(cluster: str) -> bool:
    """Whether the machine brings it back at boot."""
    if systemd.booted():
        return systemd.enabled([unit(cluster)])
    return True  # cron does, by a file that is compared like all others


def apply(
    cluster: str, python: str, user: str, request: dict[str, Any], say: Callable[[str], None]
) -> list[list[str]]:
    """Change what runs into what is asked for, see `perennial.supervision.part`."""
    if not request["turn"]:
        _part(python, user, {"do": "prepare", "root": str(root(cluster)), **request}, say)
        if systemd.booted():
            systemd.reload()
            systemd.start((), [unit(cluster)], wait=False, say=say)
            _await_answer(cluster)
    found = _part(python, user, {"do": "apply", "root": str(root(cluster)), **request}, say)
    left: list[list[str]] = found["ok"]
    return left


def bounce(cluster: str, name: str, worker: bool, say: Callable[[str], None]) -> None:
    """Restart one program, drained; a worker is back once its scheduler knows it."""
    say(f"restarting {name}")
    patience = systemd.READY if worker else ANSWER
    with owners_rights(cluster) as folder:
        supervisor = Supervisor(folder / "supervisor.sock")
        supervisor.signal_stop(name)
        supervisor.wait_stopped([name], math.inf)  # supervisord ends it after its own stop timeout
        supervisor.start(name)
        lock = folder / "run" / f"{name}.lock"
        for _ in polls(patience):
            if supervisor.processes()[name].state == "RUNNING" and (not worker or is_ready(lock)):
                return
    raise PerennialError(f"{name} is not ready after {patience:g} s; see `perennial logs {name}`")


def end(cluster: str, name: str) -> None:
    """Stop one program; supervisord runs on."""
    with owners_rights(cluster) as folder:
        supervisor = Supervisor(folder / "supervisor.sock")
        supervisor.signal_stop(name)
        supervisor.wait_stopped([name], ANSWER)


def take_down(cluster: str, known: dict[str, Any], say: Callable[[str], None]) -> None:
    """Stop everything, workers drained, and let it not come back at boot."""
    if systemd.booted():
        systemd.disable([unit(cluster)])
    timeout = float(known.get("stop_timeout", 90.0)) + 30.0
    runs = False
    with owners_rights(cluster) as folder:
        supervisor = Supervisor(folder / "supervisor.sock")
        if (folder / "supervisor.sock").exists() and supervisor.pid():
            runs = True
            say("stopping supervisord and what it runs")
            names = [name for name in supervisor.processes() if name != "scheduler"]
            for name in sorted(names, key=lambda name: name != "keeper"):  # it starts nobody anew
                supervisor.signal_stop(name)
            supervisor.wait_stopped(names, timeout)
    if runs and systemd.booted():
        systemd.stop([unit(cluster)], say)
    if runs:
        with owners_rights(cluster):
            supervisor.shutdown(timeout)
    left = processes(known.get("users", ()))
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in left:
            signal_process(pid, number)
        left = [pid for pid in left if not wait_gone(pid, timeout)]


def processes(users: Iterable[str]) -> list[int]:
    """List the processes of system users of ours, but for those in containers.

    The same number is another user in a container: 999, for one, in many images of databases.
    """
    owners = set()
    for user in users:
        with suppress(KeyError):
            owners.add(pwd.getpwnam(user).pw_uid)
    here = os.stat("/proc/self/ns/pid")
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if process.stat().st_uid in owners and os.path.samestat(
                os.stat(process / "ns" / "pid"), here
            ):
                found.append(int(process.name))
    return found


def _part(
    python: str, user: str, request: dict[str, Any], say: Callable[[str], None]
) -> dict[str, Any]:
    entry = pwd.getpwnam(user)
    process = subprocess.Popen(
        [python, "-I", "-m", started_as("part")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        user=entry.pw_uid,
        group=entry.pw_gid,
        extra_groups=[],
        cwd="/",
        umask=0o077,
        env={
            "PATH": f"{Path(python).parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": entry.pw_dir,
            "USER": user,
            "LOGNAME": user,
            "SHELL": "/bin/sh",
            "LANG": "C.UTF-8",
        },
    )
    stdin, stdout, stderr = cast(
        tuple[IO[str], IO[str], IO[str]], (process.stdin, process.stdout, process.stderr)
    )
    with suppress(BrokenPipeError):
        stdin.write(json.dumps(request) + "\n")
        stdin.close()
    result: dict[str, Any] = {}
    for line in stdout:
        said = json.loads(line)
        if "say" in said:
            say(said["say"])
        elif "error" in said:
            result = said
        else:
            result = {"ok": said["ok"]}
    trouble = " ".join(stderr.read().split())[-300:]
    process.wait()
    if "error" in result:
        raise PerennialError(result["error"])
    if "ok" not in result:
        raise PerennialError(f"{python} -m {started_as('part')}: {trouble or 'ended early'}")
    return result


def _await_answer(cluster: str) -> None:
    """Wait for the supervisord that systemd has started."""
    with owners_rights(cluster) as folder:
        supervisor = Supervisor(folder / "supervisor.sock")
        for _ in polls(ANSWER):
            if supervisor.pid():
                return
    raise PerennialError(
        f"{unit(cluster)}: supervisord does not answer after {ANSWER:g} s; its last line:"
        f" {systemd.last_words(unit(cluster))}"
    )
