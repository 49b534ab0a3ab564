"""What a cluster has on this machine, as one file remembers it.

It belongs to root alone; of a user without root, to that user.
"""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import shutil
import stat
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perennial.errors import PerennialError
from perennial.files import make_private, read_json, write_atomic

if TYPE_CHECKING:
    from perennial.platforms.hosts.agent.answers import Manifest

#: Longest file of a keeper's, in bytes.
LONGEST = 2**22
#: More members than any group has.
MOST = 100_000
#: Everything of a cluster that is no unit and no configuration stands below it.
STATE = Path("/var/lib/dask-perennial")
#: Interpreters that uv has installed where a machine had none that is new enough, by cluster.
PYTHONS = Path("/opt/dask-perennial-python")
#: Locks, and sockets of keepers. Only root writes there: others could hold a lock for ever, or
#: leave a link. Where there is a keeper, others may pass through, to its socket.
LOCKS = Path("/run/dask-perennial")


def at_home(machine: str) -> tuple[Path, Path, Path]:
    """Where these three are for a user without root: in the home folder, which machines share."""
    state = Path(pwd.getpwuid(os.geteuid()).pw_dir, ".local/state/dask-perennial", machine)
    return state, state / ".python", state / ".locks"


def folder() -> str:
    """Folder below which everything of a cluster stands."""
    return str(STATE)


def installer(cluster: str) -> str:
    """Name of the user that makes a cluster's environments, owns them and runs nothing else.

    No service's user is named like this, of whatever cluster: theirs begin with ``dask-``.
    """
    name = f"daskenv-{cluster}"
    if len(name) <= 31:
        return name
    return f"{name[:22]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def supervised(cluster: str) -> Path:
    """Folder of a cluster's supervisord, its programs, logs and locks."""
    return STATE / cluster / "supervisord"


def is_roots(cluster: str) -> bool:
    """Whether an earlier version has the cluster's supervisord here, run by a system user."""
    return Path("/var/lib/dask-perennial", cluster, "supervisord").is_dir()


def path(cluster: str) -> Path:
    """File that remembers what a cluster has on this machine."""
    return STATE / cluster / "manifest.json"


def lock(cluster: str) -> Path:
    """File that one deploy at a time holds; gone after a reboot."""
    return LOCKS / f"{cluster}.lock"


def socket(cluster: str) -> Path:
    """Socket on which a keeper is asked, see `perennial.platforms.hosts.agent.keeper`."""
    return LOCKS / f"{cluster}.sock"


def keeper(cluster: str) -> Path:
    """File in which a keeper remembers which members shall run, see `reconciling`."""
    return STATE / cluster / "keeper" / "wanted.json"


def known(cluster: str) -> Manifest:
    """Read what a cluster has on this machine, with the ``numbers`` that its keeper has."""
    found = read(cluster)
    return {**found, "numbers": remembered(keeper(cluster))} if found else {}


def keep(cluster: str, numbers: dict[str, list[int]]) -> None:
    """Tell the machine's keeper which members run; nothing of it is left where it has none."""
    file = keeper(cluster)
    if not numbers:
        if file.parent.is_dir():
            shutil.rmtree(file.parent)
    elif remembered(file) != numbers:
        remember(file, numbers)


def remember(file: Path, wanted: Mapping[str, Collection[int]]) -> None:
    """Write down which members shall run."""
    # An earlier version's folder can be the cluster's user's, who ran the keeper.
    make_private(file.parent)
    folder, text = file.parent.stat(), {name: sorted(own) for name, own in wanted.items()}
    owner = None if folder.st_uid == os.geteuid() else (folder.st_uid, folder.st_gid)
    write_atomic(file, f"{json.dumps(text)}\n", owner=owner)


def remembered(file: Path) -> dict[str, list[int]]:
    """Read which members shall run; empty where nothing has been written down."""
    try:
        found = json.loads(_content(file))
        return {str(group): sorted(checked_numbers(numbers)) for group, numbers in found.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise PerennialError(
            f"{file} is damaged: {error}; remove it, and what runs now is kept"
        ) from None


def _content(file: Path) -> bytes:
    """Read a file that somebody with fewer rights may have put there."""
    try:
        handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return b"{}"
    with open(handle, "rb") as stream:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ValueError("not a regular file")
        return stream.read(LONGEST)


def checked_numbers(values: Any) -> set[int]:
    """Check numbers of members."""
    found = set(values)
    for value in found:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < MOST:
            raise ValueError(
                f"found member {value!r:.100}; allowed: a whole number from 0 to {MOST - 1}"
            )
    return found


def read(cluster: str) -> Manifest:
    """Read what a cluster has on this machine; empty when it has nothing."""
    found: Manifest = read_json(path(cluster), {})
    return found
