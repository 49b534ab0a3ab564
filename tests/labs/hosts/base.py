"""The packages of the lab's machines: one Debian tree, made once and kept in the cache folder."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

CHECKOUT = Path(__file__).parents[3]
SUITE = "bookworm"
PACKAGES = (
    "systemd,systemd-sysv,dbus,libpam-systemd,iproute2,procps,python3,"
    "openssh-server,sudo,ca-certificates,nftables,cron"
)


class UnavailableError(Exception):
    """The lab cannot run here; says why in one line."""


def cache(name: str) -> Path:
    """Give the folder in which a lab keeps what it builds."""
    default = Path.home() / ".cache" / "perennial-labs"
    folder = Path(os.environ.get("PERENNIAL_LAB_CACHE") or default) / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def alone(what: str) -> Iterator[None]:
    """Let no other run of the tests build or install the same thing meanwhile."""
    with (cache(what) / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def make_base(say: IO[str] = sys.stderr) -> Path:
    """Give the packages of a machine; makes them the first time, which takes some minutes.

    Raises
    ------
    UnavailableError
        Where the lab cannot run.
    """
    if os.geteuid() != 0:
        raise UnavailableError("the hosts lab needs root, for mounts and namespaces")
    if any(CHECKOUT.is_relative_to(hidden) for hidden in ("/root", "/home", "/tmp", "/var/tmp")):
        raise UnavailableError(f"{CHECKOUT} is where hardened services cannot see it")
    install("mmdebstrap", "systemd-nspawn", "ip", "ssh")
    with alone("hosts"):
        return _made_base(cache("hosts"), say)


def _made_base(kept: Path, say: IO[str]) -> Path:
    base = kept / f"{SUITE}-{hashlib.sha256(PACKAGES.encode()).hexdigest()[:12]}"
    if base.is_dir():
        return base
    print(f"making {base}", file=say)
    with tempfile.TemporaryDirectory(dir=kept) as folder:
        made = Path(folder) / "base"
        done = subprocess.run(
            ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}", SUITE, made],
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            reason = " ".join(done.stderr.split())[-200:]
            raise UnavailableError(f"mmdebstrap cannot make a Debian tree: {reason}")
        made.rename(base)
    return base


def install(*programs: str) -> None:
    """Install the programs of this lab that are missing.

    Raises
    ------
    UnavailableError
        Where they cannot be installed.
    """
    with alone("installing"):
        _install([program for program in programs if shutil.which(program) is None])


def _install(missing: list[str]) -> None:
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise UnavailableError(f"{missing[0]} is missing and there is no apt-get to install it")
    packages = {
        "mmdebstrap": "mmdebstrap",
        "systemd-nspawn": "systemd-container",
        "ip": "iproute2",
        "ssh": "openssh-client",
        "haproxy": "haproxy",
        "cc": "gcc libc6-dev",
    }
    for arguments in (("update",), ("install", "--yes", "--no-install-recommends")):
        wanted = " ".join(packages[program] for program in missing).split()
        wanted = wanted if arguments[0] == "install" else []
        done = subprocess.run(
            ["apt-get", "--quiet", *arguments, *wanted],
            check=False,
            capture_output=True,
            text=True,
            env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
        )
        if done.returncode:
            reason = " ".join(done.stderr.split())[-200:]
            raise UnavailableError(f"apt-get {arguments[0]} failed: {reason}")
