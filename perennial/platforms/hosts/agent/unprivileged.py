"""Programs that root starts with somebody else's rights: what others may have written, for one."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

#: The most that is read of what a program prints, in bytes.
LONGEST = 2**20
#: Programs of the machine itself.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NOBODY = 65534


class Account(NamedTuple):
    """Whose rights a program gets."""

    uid: int
    gid: int
    home: str


def nobody() -> Account:
    """Account that owns nothing."""
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return Account(_NOBODY, _NOBODY, "/nonexistent")
    return Account(entry.pw_uid, entry.pw_gid, "/nonexistent")


def account(name: str) -> Account:
    """Account of a user."""
    entry = pwd.getpwnam(name)
    return Account(entry.pw_uid, entry.pw_gid, entry.pw_dir)


def run(
    argv: Sequence[str],
    who: Account,
    timeout: float,
    environment: Mapping[str, str] | None = None,
) -> tuple[int, str]:
    """Run a program with a user's rights alone; returns its exit code and what it printed."""
    code, data = run_bytes(argv, who, timeout, environment)
    return code, data.decode(errors="replace")


def run_bytes(
    argv: Sequence[str],
    who: Account,
    timeout: float,
    environment: Mapping[str, str] | None = None,
) -> tuple[int, bytes]:
    """Do what `run` does, and return the bytes as they were printed."""
    # The requests of the operator, secrets among them, come through our own standard input.
    rights: dict[str, Any] = {}
    if os.geteuid() == 0:
        rights = {"user": who.uid, "group": who.gid, "extra_groups": ()}
    # A file: a pipe would stay open as long as anything that the program has left behind.
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            cwd="/",
            env={"PATH": PATH, "HOME": who.home, "LANG": "C.UTF-8", **(environment or {})},
            umask=0o022,
            start_new_session=True,
            **rights,
        )
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        start = max(os.fstat(said.fileno()).st_size - LONGEST, 0)
        data = os.pread(said.fileno(), LONGEST, start)
    return process.returncode, data
