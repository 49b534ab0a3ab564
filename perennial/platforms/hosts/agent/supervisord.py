"""Services of a cluster under a supervisord of its own, run by the login user, without root.

supervisord is driven by the same code as on a local cluster (`perennial.supervision.run_once`), in
the cluster's own environment.
"""

from __future__ import annotations

import json
import math
import os
import pwd
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from perennial.errors import PerennialError
from perennial.platforms.hosts.agent import boot, manifest, processes, systemd
from perennial.supervision.single_instance import holder, is_ready
from perennial.supervision.supervisor import (
    Supervisor,
    polls,
    signal_process,
    started_as,
    wait_gone,
)

if TYPE_CHECKING:
    from perennial.platforms.hosts.agent.answers import Manifest, Member

#: Seconds in which a supervisord that was started must answer.
ANSWER = 60.0


def members(cluster: str) -> dict[str, Member]:
    """State, pid, restarts and fingerprint of each program."""
    known: dict[str, str] = {}
    folder = manifest.supervised(cluster)
    supervisor = Supervisor(folder / "supervisor.sock")
    if (folder / "supervisor.sock").exists() and supervisor.pid():
        known = {process.name: process.state for process in supervisor.processes().values()}
    names = sorted({*known, *(path.stem for path in (folder / "run").glob("*.lock"))})
    holders = {name: holder(folder / "run" / f"{name}.lock") for name in names}
    found: dict[str, Member] = {}
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


def apply(
    cluster: str,
    python: str,
    unit: str | None,
    request: dict[str, Any],
    say: Callable[[str], None],
) -> list[list[str]]:
    """Change what runs into what is asked for, see `perennial.supervision.run_once`."""
    if not request["turn"]:
        _part(python, {"do": "prepare", "root": str(manifest.supervised(cluster)), **request}, say)
        known = manifest.read(cluster)
        boot.remember(cluster, known.get("crontab", ""))
        systemd.disable([name for name in known.get("units", ()) if name != unit])
        if unit:
            _start(cluster, unit, say)
    found = _part(
        python, {"do": "apply", "root": str(manifest.supervised(cluster)), **request}, say
    )
    left: list[list[str]] = found["ok"]
    return left


def _start(cluster: str, unit: str, say: Callable[[str], None]) -> None:
    """Let the user's systemd run the supervisord; one that runs already goes, and is adopted."""
    supervisor = Supervisor(manifest.supervised(cluster) / "supervisor.sock")
    systemd.reload()
    if not systemd.active(unit) and (pid := supervisor.pid()):
        signal_process(pid, signal.SIGKILL)
        wait_gone(pid, ANSWER)
    systemd.start((), [unit], wait=False, say=say)
    for _ in polls(ANSWER):
        if supervisor.pid():
            return
    raise PerennialError(
        f"{unit}: supervisord does not answer after {ANSWER:g} s; its last line:"
        f" {systemd.last_words(unit)}"
    )


def bounce(cluster: str, name: str, worker: bool, say: Callable[[str], None]) -> None:
    """Restart one program, drained; a worker is back once its scheduler knows it."""
    say(f"restarting {name}")
    timeout = systemd.READY if worker else ANSWER
    supervisor = Supervisor(manifest.supervised(cluster) / "supervisor.sock")
    supervisor.signal_stop(name)
    supervisor.wait_stopped([name], math.inf)  # supervisord ends it after its own stop timeout
    supervisor.start(name)
    lock = manifest.supervised(cluster) / "run" / f"{name}.lock"
    for _ in polls(timeout):
        if supervisor.processes()[name].state == "RUNNING" and (not worker or is_ready(lock)):
            return
    raise PerennialError(f"{name} is not ready after {timeout:g} s; see `perennial logs {name}`")


def end(cluster: str, name: str) -> None:
    """Stop one program; supervisord runs on."""
    supervisor = Supervisor(manifest.supervised(cluster) / "supervisor.sock")
    supervisor.signal_stop(name)
    supervisor.wait_stopped([name], ANSWER)


def take_down(cluster: str, known: Manifest, say: Callable[[str], None]) -> None:
    """Stop everything, workers drained, and let it not come back at boot."""
    units = known.get("units", ())
    boot.forget(cluster, units)
    timeout = float(known.get("stop_timeout", 90.0)) + 30.0
    supervisor = Supervisor(manifest.supervised(cluster) / "supervisor.sock")
    if (manifest.supervised(cluster) / "supervisor.sock").exists() and supervisor.pid():
        say("stopping supervisord and what it runs")
        names = [name for name in supervisor.processes() if name != "scheduler"]
        for name in sorted(names, key=lambda name: name != "keeper"):  # the keeper first
            supervisor.signal_stop(name)
        supervisor.wait_stopped(names, timeout)
        systemd.stop(units, say)
        supervisor.shutdown(timeout)
    left = processes.of_cluster(cluster)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in left:
            signal_process(pid, number)
        left = [pid for pid in left if not wait_gone(pid, timeout)]


def _part(python: str, request: dict[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
    entry = pwd.getpwuid(os.geteuid())
    process = subprocess.Popen(
        [python, "-I", "-m", started_as("part")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
        umask=0o077,
        env={
            "PATH": f"{Path(python).parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": entry.pw_dir,
            "USER": entry.pw_name,
            "LOGNAME": entry.pw_name,
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
