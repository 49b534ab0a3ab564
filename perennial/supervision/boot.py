"""Bring a cluster back after a reboot: one systemd unit that keeps its supervisord."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from perennial import render
from perennial.errors import PerennialError
from perennial.files import write_atomic
from perennial.paths import ClusterPaths, supervisord_folder
from perennial.state import Stack, command
from perennial.supervision import supervisor as supervision

#: Seconds for one call of systemctl.
TIMEOUT = 60.0


def unit_name(cluster: str) -> str:
    """Name of a cluster's unit."""
    return f"dask-perennial-{cluster}.service"


def unit_path(cluster: str) -> Path:
    """Where it stands: among the system's units for root, else among the user's."""
    if os.geteuid() == 0:
        return Path("/etc/systemd/system", unit_name(cluster))
    return Path.home() / ".config" / "systemd" / "user" / unit_name(cluster)


def enabled(cluster: str) -> bool:
    """Whether systemd brings the cluster back."""
    return unit_path(cluster).exists() and has_systemd()


def has_systemd() -> bool:
    """Whether systemd runs this machine (sd_booted(3))."""
    return Path("/run/systemd/system").is_dir()


def enable(
    paths: ClusterPaths,
    supervisor: supervision.Supervisor,
    file: str,
    stop_timeout: float,
    say: Callable[[str], None],
) -> str:
    """Install the unit and hand the running supervisord over to it, without a loss.

    supervisord is killed and systemd starts another one, which adopts the services.
    """
    name = paths.root.name
    if not has_systemd():
        raise PerennialError(
            f"no systemd runs this machine; have {command('up', name)} run after each boot"
            if Stack.load(paths)
            else "no systemd runs this machine; add this line with `crontab -e` instead:"
            f" @reboot {_perennial()} up --yes --file {file}"
        )
    if not supervisor.pid():
        raise PerennialError(f"{name} does not run; {command('up', name)} starts it")
    text = render.boot_unit(
        cluster=name,
        configuration=str(paths.supervisord_conf),
        argv=supervision.command(paths.supervisord_conf, "--nodaemon"),
        system=os.geteuid() == 0,
        directory=supervisord_folder(paths),
        stop_timeout=30.0 + stop_timeout,
    )
    write_atomic(unit_path(name), text, mode=0o644)
    _systemctl("daemon-reload")
    _systemctl("enable", unit_name(name))
    if os.geteuid() != 0:
        _linger(say)
    if _systemctl("is-active", unit_name(name), check=False) != "active":
        say("handing supervisord over to systemd")
        hand_over(name, supervisor)
    return unit_name(name)


def hand_over(cluster: str, supervisor: supervision.Supervisor) -> None:
    """Let systemd run the supervisord; what runs is adopted."""
    if pid := supervisor.pid():
        supervision.signal_process(pid, signal.SIGKILL)
        supervision.wait_gone(pid, TIMEOUT)
    start(cluster, supervisor)


def start(cluster: str, supervisor: supervision.Supervisor) -> None:
    """Start the cluster's supervisord by its unit and wait until it answers."""
    _systemctl("start", unit_name(cluster))
    for _ in supervision.polls(TIMEOUT):
        if supervisor.pid():
            return
    raise PerennialError(
        f"{unit_name(cluster)} was started, but supervisord does not answer;"
        f" see `journalctl {'' if os.geteuid() == 0 else '--user '}-u {unit_name(cluster)}`"
    )


def disable(name: str) -> str:
    """Remove a cluster's unit; what runs goes on running under supervisord."""
    if not unit_path(name).exists():
        raise PerennialError(f"{name} is not enabled: there is no {unit_path(name)}")
    if has_systemd():
        _systemctl("disable", unit_name(name))
    unit_path(name).unlink()
    if has_systemd():
        _systemctl("daemon-reload")
    return unit_name(name)


def _linger(say: Callable[[str], None]) -> None:
    """Let the user's units start at boot and not at log-in."""
    done = subprocess.run(
        ["loginctl", "enable-linger"], capture_output=True, text=True, check=False, timeout=TIMEOUT
    )
    if done.returncode:
        say(f"it starts at your log-in only: loginctl enable-linger: {done.stderr.strip()}")


def _systemctl(*words: str, check: bool = True) -> str:
    scope = [] if os.geteuid() == 0 else ["--user"]
    done = subprocess.run(
        ["systemctl", *scope, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
        # No service gets the variable, and JupyterLab's terminal has none.
        env={"XDG_RUNTIME_DIR": f"/run/user/{os.geteuid()}", **os.environ},
    )
    if check and done.returncode:
        said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise PerennialError(f"systemctl {' '.join(words)}: {said}")
    return done.stdout.strip()


def _perennial() -> str:
    beside = Path(sys.executable).parent / "perennial"
    return str(beside) if beside.exists() else f"{sys.executable} -m perennial"
