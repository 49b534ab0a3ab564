"""The user that makes a cluster's environments on a machine: it owns them, and runs nothing else.

What it installs is anybody's code: an interpreter runs some of it whenever it starts. So no root
makes environments or runs what is in them, and no service can change the one that it runs in.
Without root there is no such user: the login user makes them, as whom the services run as well.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from perennial.files import make_private, write_atomic
from perennial.platforms.hosts.agent import accounts, folders, manifest, processes, unprivileged
from perennial.platforms.hosts.agent.unprivileged import Account

#: Logins for package indexes, for the time of an installation.
NETRC = Path("/etc/dask-perennial/netrc")


def home(cluster: str) -> Path:
    """Folder for what is needed while packages are installed."""
    return manifest.STATE / cluster / "installer"


@contextmanager
def at_work(cluster: str) -> Iterator[Account]:
    """Yield the user that installs, made where missing; its processes are ended afterwards."""
    with _login_user(cluster) if os.geteuid() else _own_user(cluster) as who:
        yield who


@contextmanager
def _login_user(cluster: str) -> Iterator[Account]:
    """Yield the login user, where no other one can be made."""
    folder = home(cluster)
    for each in (manifest.PYTHONS, manifest.PYTHONS / cluster, folder):
        make_private(each)
    netrc = Path(pwd.getpwuid(os.geteuid()).pw_dir, ".netrc")
    if netrc.is_file():
        write_atomic(folder / ".netrc", netrc.read_bytes())
    try:
        yield Account(os.geteuid(), os.getegid(), str(folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _own_user(cluster: str) -> Iterator[Account]:
    """Yield a system user of the cluster's that does nothing else."""
    name, folder = manifest.installer(cluster), home(cluster)
    accounts.make(name, str(folder))
    who = unprivileged.account(name)._replace(home=str(folder))
    end(cluster)
    folders.make(manifest.PYTHONS, 0o755, None, ours=False)
    folders.make(manifest.PYTHONS / cluster, 0o755, (who.uid, who.gid), ours=True)
    folders.make(folder, 0o700, (who.uid, who.gid), ours=True)
    _empty(folder)  # an interrupted run may have left files
    if NETRC.is_file():
        write_atomic(folder / ".netrc", NETRC.read_bytes(), owner=(who.uid, who.gid))
    try:
        yield who
    finally:
        end(cluster)
        _empty(folder)


def _empty(folder: Path) -> None:
    """Empty a folder; it stays, for a user that is made again gets its number from it."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def end(cluster: str) -> None:
    """End all that it runs, what a package has left behind for one."""
    name = manifest.installer(cluster)
    if not accounts.is_known(name):
        return
    for _ in range(100):  # one that has just been started by another may be missing in a list
        left = processes.of_user(accounts.ids(name)[0])
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not left:
            return
        time.sleep(0.05)


def complete_mark(environment: Path) -> Path:
    """File that says that an environment is whole; root's, as nothing inside of it is."""
    return environment.with_name(f".{environment.name}.json")


def drop_environment(folder: Path) -> None:
    """Remove an environment and what says that it is whole."""
    complete_mark(folder).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def drop(cluster: str) -> None:
    """Remove the user and the interpreters that it has installed, once nothing uses them."""
    state = manifest.STATE / cluster
    if any(any(state.glob(name)) for name in ("env-*", "bin")):
        return
    if os.geteuid() == 0:
        end(cluster)
    shutil.rmtree(home(cluster), ignore_errors=True)
    shutil.rmtree(manifest.PYTHONS / cluster, ignore_errors=True)
    # A user's are in the home folder, with folders above them that were made for them.
    above = (manifest.LOCKS, manifest.STATE, *manifest.STATE.parents[:3]) if os.geteuid() else ()
    for folder in (state, manifest.STATE, manifest.PYTHONS, *above):
        with suppress(OSError):
            folder.rmdir()
    if os.geteuid() == 0:
        accounts.remove(manifest.installer(cluster))  # last: nobody inherits its number with a file
