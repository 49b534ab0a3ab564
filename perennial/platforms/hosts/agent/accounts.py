"""System users of a cluster on a machine."""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
from contextlib import suppress
from pathlib import Path

from perennial.errors import PerennialError


def is_known(user: str) -> bool:
    """Whether there is a user of this name."""
    with suppress(KeyError):
        pwd.getpwnam(user)
        return True
    return False


def ids(user: str | None) -> tuple[int, int]:
    """Numbers of a user and its group; our own for None."""
    if user is None:
        return os.geteuid(), os.getegid()
    entry = pwd.getpwnam(user)
    return entry.pw_uid, entry.pw_gid


def make(name: str, home: str) -> None:
    """Make a system user, where there is none."""
    if is_known(name):
        return
    uid, gid = _numbers_of(Path(home))
    try:
        grp.getgrnam(name)  # left over where the user was removed by hand
    except KeyError:
        _run("groupadd", "--system", *gid, name)
    _run(
        *("useradd", "--system", *uid, "--gid", name, "--no-create-home", "--home-dir", home),
        *("--shell", "/usr/sbin/nologin", "--comment", "Dask cluster (dask-perennial)", name),
    )


def _numbers_of(home: Path) -> tuple[list[str], list[str]]:
    """Options for the numbers that a user had who was removed by hand: what runs keeps them."""
    uid: list[str] = []
    gid: list[str] = []
    if home.is_dir():
        status = home.stat()
        try:
            pwd.getpwuid(status.st_uid)
        except KeyError:
            uid = ["--uid", str(status.st_uid)]
            with suppress(KeyError):
                grp.getgrgid(status.st_gid)
                return uid, gid
            gid = ["--gid", str(status.st_gid)]
    return uid, gid


def remove(name: str) -> None:
    """Remove a system user and its group."""
    with suppress(KeyError):
        pwd.getpwnam(name)
        _run("userdel", name)
    with suppress(KeyError):
        grp.getgrnam(name)
        _run("groupdel", name)


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise PerennialError(f"{' '.join(argv[:1])}: {said}")
