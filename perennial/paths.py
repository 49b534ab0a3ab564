"""Where things are in the user's home, after the XDG base directory specification.

The environment is read when a function is called, so that a test or a service with another
home sees its own folders.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
from dataclasses import dataclass
from pathlib import Path, PurePath

from perennial.errors import PerennialError

#: What a name must look like before it becomes part of a path. The cluster file is stricter;
#: this holds for names from the command line and from bundles as well.
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


#: Longest path of supervisord's socket: 107 bytes (unix(7)), and supervisord makes it under a
#: name with its process id at the end first.
SOCKET_PATH = 107 - len(".4194304")


def is_long(socket: PurePath) -> bool:
    """Whether a socket's path is longer than the kernel takes, as below many a long home."""
    return len(os.fsencode(socket)) > SOCKET_PATH


def supervisord_folder(paths: ClusterPaths) -> str:
    """Folder in which the cluster's supervisord is started: where it makes a socket by its name."""
    return str(paths.root) if is_long(paths.socket) else "/"


@dataclass(frozen=True, slots=True)
class ClusterPaths:
    """What a cluster keeps on this machine."""

    #: The cluster's state folder.
    root: Path

    @property
    def spec(self) -> Path:
        """The cluster file as it was deployed."""
        return self.root / "cluster.yaml"

    @property
    def state(self) -> Path:
        """What is deployed, for the next plan."""
        return self.root / "state.json"

    @property
    def connection(self) -> Path:
        """How a client reaches the cluster."""
        return self.root / "connection.json"

    @property
    def machine(self) -> Path:
        """The machine that the cluster runs on, while it is up."""
        return self.root / "machine.json"

    @property
    def stack(self) -> Path:
        """The stack of the user's own Pulumi that deploys the cluster, if one does."""
        return self.root / "stack.json"

    @property
    def lock(self) -> Path:
        """Held by the one process that changes the cluster."""
        return self.root / "lock"

    @property
    def socket(self) -> Path:
        """Socket of supervisord."""
        return self.root / "supervisor.sock"

    @property
    def supervisord_conf(self) -> Path:
        """Configuration of supervisord itself."""
        return self.root / "supervisord.conf"

    @property
    def units(self) -> Path:
        """Folder of the supervisord programs, one file a service."""
        return self.root / "conf.d"

    @property
    def config(self) -> Path:
        """Folder of the configuration that services read."""
        return self.root / "config"

    @property
    def tls(self) -> Path:
        """Folder of the certificates and keys."""
        return self.root / "tls"

    @property
    def secrets(self) -> Path:
        """Folder of the other secrets."""
        return self.root / "secrets"

    @property
    def logs(self) -> Path:
        """Folder of the services' logs."""
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """Folder of what holds only while the cluster runs."""
        return self.root / "run"

    @property
    def pages(self) -> Path:
        """Folder of the socket on which the scheduler serves its pages."""
        return self.root / "pages"

    @property
    def scaler(self) -> Path:
        """Folder of what the scaler remembers."""
        return self.root / "scaler"

    @property
    def work(self) -> Path:
        """Working folder of the scheduler and the workers: what tasks write by relative paths."""
        return self.root / "work"

    @property
    def scratch(self) -> Path:
        """Folder for what workers spill to disk."""
        return self.root / "scratch"


def state_home() -> Path:
    """Folder of everything that perennial keeps for this user."""
    xdg = os.environ.get("XDG_STATE_HOME", "")
    # The specification says to ignore relative paths: they would depend on the working folder.
    base = Path(xdg) if os.path.isabs(xdg) else _home() / ".local" / "state"
    # By its real name: under the other name of a linked home, everything would look changed.
    return Path(os.path.realpath(base), "perennial")


def cluster_state(name: str) -> ClusterPaths:
    """Paths of one cluster."""
    home = state_home()
    folder = home / _checked(name)
    for each in (home, folder):
        if fault := fault_of_owner(each):
            raise PerennialError(
                f"{each}: {fault}; what a cluster keeps must be yours alone: look at what stands"
                f" there, then run `chmod go-w {each}`, or set XDG_STATE_HOME to a folder of yours"
            )
    return ClusterPaths(folder)


def fault_of_owner(folder: Path) -> str:
    """Say why others can change what is in a folder; empty when they cannot, or there is none."""
    try:
        found = (os.lstat(folder), os.stat(folder))  # a link may be somebody else's
    except (FileNotFoundError, NotADirectoryError):
        return ""
    owners = {each.st_uid for each in found} - {os.geteuid()}
    if owners:
        return f"belongs to user {min(owners)}, not to user {os.geteuid()}"
    mode = found[1].st_mode
    if mode & 0o002 or (mode & 0o020 and not _is_private_group(found[1].st_gid)):
        return f"others may write to it (mode {mode & 0o7777:04o})"
    return ""


def _is_private_group(number: int) -> bool:
    """Whether a group has one user alone, as where the usual umask is 002: theirs, by its name."""
    try:
        group = grp.getgrgid(number)
        return group.gr_name == pwd.getpwuid(os.geteuid()).pw_name and not group.gr_mem
    except KeyError:
        return False


def known_clusters() -> list[str]:
    """Names of the clusters that this user has on this machine, in order."""
    return sorted(
        folder.name
        for folder in _folders(state_home())
        if ClusterPaths(folder).spec.is_file() or ClusterPaths(folder).supervisord_conf.is_file()
    )


def left_behind() -> list[str]:
    """Names of the clusters that are down and whose certificates, token or logs stay, in order."""
    return sorted(
        folder.name
        for folder in _folders(state_home())
        if _NAME.fullmatch(folder.name)
        and folder.name not in known_clusters()
        and any(part.is_dir() for part in _lasting(ClusterPaths(folder)))
    )


def received_connection(name: str) -> Path:
    """Folder of a connection to a cluster elsewhere, installed from a bundle."""
    return _connections() / _checked(name)


def received_connections() -> list[str]:
    """Names of the clusters elsewhere whose bundles were installed, in order."""
    return sorted(folder.name for folder in _folders(_connections()))


def tunnel(name: str) -> Path:
    """File that says how a cluster is reached through a bastion; it stands while there is one."""
    return state_home() / "tunnels.d" / _checked(name) / "tunnel.json"


def tunnels() -> list[str]:
    """Names of the clusters that are reached through a bastion, in order."""
    return sorted(file.parent.name for file in (state_home() / "tunnels.d").glob("*/tunnel.json"))


def dask_config_homes() -> list[Path]:
    """Folders of the user's own Dask configuration, the one that wins first.

    Dask reads ``~/.config/dask`` whatever ``XDG_CONFIG_HOME`` says, and over it the folder or
    file that ``DASK_CONFIG`` names.
    """
    home = _home() / ".config" / "dask"
    named = os.environ.get("DASK_CONFIG", "")
    if not named or os.path.isfile(named):
        return [home]
    # Not expanded: Dask takes `~` in DASK_CONFIG as it stands.
    return list(dict.fromkeys([Path(named).absolute(), home]))


def dask_config_home() -> Path:
    """Folder where the user's own Dask configuration is written."""
    return dask_config_homes()[0]


def _lasting(cluster: ClusterPaths) -> tuple[Path, ...]:
    """Folders that `perennial down` leaves."""
    return cluster.tls, cluster.secrets, cluster.logs


def _connections() -> Path:
    # No cluster can have this name, because a DNS label holds no dot.
    return state_home() / "connections.d"


def _home() -> Path:
    return Path(os.path.expanduser("~"))


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise PerennialError(
            f"{name!r} is no cluster name: found something other than small letters, digits "
            "and -; `perennial list` shows the names"
        )
    return name


def _folders(parent: Path) -> list[Path]:
    try:
        return [entry for entry in parent.iterdir() if entry.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
