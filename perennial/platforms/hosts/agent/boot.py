"""What starts a user's supervisord at boot: the user's own systemd, or the user's crontab.

Both are the login user's: nothing here needs root.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from perennial.errors import PerennialError
from perennial.platforms.hosts.agent import manifest, systemd

#: A file for each user whose systemd runs from boot on, without a login.
LINGER = Path("/var/lib/systemd/linger")
#: Seconds for a question to logind, or to crontab.
TIMEOUT = 20.0
#: What a path may consist of that stands in many formats.
_PLAIN = re.compile(r"/[A-Za-z0-9._@+/-]+")


def settle() -> dict[str, str]:
    """Say where this user's clusters are, and what starts them at boot; allow that, if possible."""
    if not _PLAIN.fullmatch(str(manifest.STATE)):
        raise PerennialError(
            f"found the home folder {str(manifest.STATE.parents[3])!r}; allowed without root: one"
            " of letters, digits and . _ @ + - alone; log in as another user"
        )
    home = Path(pwd.getpwuid(os.geteuid()).pw_dir)
    return {
        "folder": str(manifest.STATE),
        "units": str(home / ".config/systemd/user"),
        "boot": _chosen(),
    }


def _chosen() -> str:
    """Choose what starts a supervisord at boot; empty where the user may have nothing."""
    # Without lingering, the user's systemd ends with the last login, and all that it runs.
    if systemd.booted() and systemd.answers() and (_lingers() or _linger()):
        return "unit"
    return "crontab" if _table() is not None else ""


def _lingers() -> bool:
    return (LINGER / pwd.getpwuid(os.geteuid()).pw_name).exists()


def _linger() -> bool:
    """Ask logind to start this user's systemd at boot; says whether it does."""
    with suppress(OSError, subprocess.TimeoutExpired):
        ask = ["loginctl", "--no-ask-password", "enable-linger"]
        subprocess.run(ask, capture_output=True, check=False, timeout=TIMEOUT)
    return _lingers()


def remember(cluster: str, line: str) -> None:
    """Put a cluster's line into the user's crontab, in the place of an earlier one."""
    mark = f" # dask-perennial: {cluster}"
    lock = os.open(manifest.STATE, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two clusters have lines in one table
        table = _table()
        if table is None:
            return
        others = [each for each in table.splitlines() if not each.endswith(mark)]
        wanted = [*others, *([f"{line.strip()}{mark}"] if line else [])]
        if wanted != table.splitlines():
            text = "".join(f"{each}\n" for each in wanted)
            code, said = _crontab(*(["-"] if wanted else ["-r"]), given=text)
            if code:
                raise PerennialError(f"crontab: {' '.join(said.split()) or f'exit code {code}'}")
    finally:
        os.close(lock)


def forget(cluster: str, units: Sequence[str]) -> None:
    """Let a cluster not come back at boot."""
    if units:
        systemd.disable(units)
        home = Path(pwd.getpwuid(os.geteuid()).pw_dir)
        with suppress(OSError):  # others have something there
            (home / ".config/systemd/user/default.target.wants").rmdir()
    if _holds(cluster):
        remember(cluster, "")


def enabled(cluster: str, units: Sequence[str], line: str) -> bool:
    """Whether the machine brings a cluster back, in the way that was chosen for it."""
    if units:
        return systemd.enabled(units)
    return not line or _holds(cluster)


def _holds(cluster: str) -> bool:
    lines = (_table() or "").splitlines()
    return any(line.endswith(f" # dask-perennial: {cluster}") for line in lines)


def _table() -> str | None:
    """Read the user's crontab; None where there is none to be had."""
    if not shutil.which("crontab"):
        return None
    code, said = _crontab("-l")
    if code == 0:
        return said
    return "" if "no crontab for" in said else None


def _crontab(*words: str, given: str = "") -> tuple[int, str]:
    done = subprocess.run(
        ["crontab", *words],
        input=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
        env={**os.environ, "LC_ALL": "C"},
    )
    return done.returncode, done.stdout if not done.returncode else done.stderr
