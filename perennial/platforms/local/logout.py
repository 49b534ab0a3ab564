"""Whether systemd-logind ends a cluster when its user logs out."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

#: Where logind.conf(5) looks, what wins first.
CONFIGURATION = ("/etc/systemd", "/run/systemd", "/usr/local/lib/systemd", "/usr/lib/systemd")
#: A file for each user whose manager runs on without a session.
LINGER = Path("/var/lib/systemd/linger")
#: Seconds for a question to logind.
TIMEOUT = 10.0

_SESSION = re.compile(r"/(session-[^/]+\.scope)(?:/|$)", re.MULTILINE)
_MANAGER = re.compile(r"/user@[0-9]+\.service(?:/|$)", re.MULTILINE)
_TRUE = ("1", "yes", "y", "true", "t", "on")


def warning(cgroups: Mapping[str, str], user: str, ends: bool, lingers: bool) -> str:
    """Say what ends at a logout and which command keeps it; empty when nothing does. Pure."""
    bound = [name for name, text in cgroups.items() if ends and _SESSION.search(text)]
    managed = [name for name, text in cgroups.items() if _MANAGER.search(text)]
    if "supervisord" in bound:
        return (
            "logind ends the processes of a login when it ends (KillUserProcesses=yes), and the"
            " cluster was started in one; run `perennial enable`"
        )
    if bound:
        return (
            f"{', '.join(bound)}: started in a login, with which logind ends them"
            " (KillUserProcesses=yes), and then come back without their work; `perennial restart`"
            " takes each out of it"
        )
    if managed and not lingers:
        return (
            "systemd ends what a user's manager runs when the last login of the user ends, and"
            f" lingering is off; run `loginctl enable-linger {user}`"
        )
    return ""


def found(pids: Mapping[str, int]) -> str:
    """Look at this machine and the cluster's processes; as `warning`."""
    user = _user()
    cgroups = {}
    for name, pid in pids.items():
        with suppress(OSError):
            cgroups[name] = Path(f"/proc/{pid}/cgroup").read_text()
    return warning(cgroups, user, ends_processes(settings(), user), (LINGER / user).exists())


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def ends_processes(logind: Mapping[str, str], user: str) -> bool:
    """Read logind.conf(5)'s rule off its settings: whether it holds for a user. Pure.

    Distributions build logind with ``no`` where nothing is set, whatever the manual says.
    """
    if logind.get("KillUserProcesses", "no").lower() not in _TRUE:
        return False
    only = logind.get("KillOnlyUsers", "").split()
    if only and user not in only:
        return False
    return user not in logind.get("KillExcludeUsers", "root").split()


def settings(roots: Sequence[str] = CONFIGURATION) -> dict[str, str]:
    """Read logind's settings: its files, and over them what the running one says of itself."""
    read = parse(path.read_text(errors="replace") for path in files(roots))
    names = ("KillUserProcesses", "KillOnlyUsers", "KillExcludeUsers")
    ask = ["loginctl", "show-user", *(f"--property={name}" for name in names)]
    with suppress(OSError, subprocess.TimeoutExpired):
        # Without a user's name it shows the properties of logind.
        done = subprocess.run(ask, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        said = (line.partition("=") for line in done.stdout.splitlines())
        read.update({name: value for name, sign, value in said if sign and name in names})
    return read


def files(roots: Sequence[str] = CONFIGURATION) -> list[Path]:
    """List the files that logind reads, the one that counts last at the end."""
    main = next((p for root in roots if (p := Path(root, "logind.conf")).is_file()), None)
    more: dict[str, Path] = {}
    for root in reversed(roots):  # the same name in a folder before it takes its place
        more.update({path.name: path for path in Path(root).glob("logind.conf.d/*.conf")})
    return [
        *([main] if main else []),
        *(more[name] for name in sorted(more) if more[name].is_file()),
    ]


def parse(texts: Iterable[str]) -> dict[str, str]:
    """Read settings from files, of which a later one counts. Pure."""
    read: dict[str, str] = {}
    for text in texts:
        for line in text.splitlines():
            name, sign, value = line.strip().partition("=")
            if sign and not name.startswith(("#", ";")):
                read[name.strip()] = value.strip()
    return {name: value for name, value in read.items() if value}
