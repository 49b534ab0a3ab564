"""The part of a keeper which is root's.

It starts and stops the members of its machine's own groups, up to the number that the cluster
file gives this machine, and nothing else. What is asked of it comes as JSON over a unix socket,
from the relay (`perennial.platforms.hosts.relay`), which runs as the cluster's user and is the only
part that talks to the scheduler. A client of the cluster can run code as that user, so nothing
that comes from there is believed.

It needs Python's standard library alone and has no network: nothing here may parse what Dask
sends.
"""

from __future__ import annotations

import json
import logging
import os
import pwd
import re
import select
import socket
import struct
import sys
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perennial.capacity import Use
from perennial.errors import PerennialError
from perennial.platforms.hosts.agent import manifest, systemd
from perennial.platforms.hosts.agent.reconciling import (
    LONGEST,
    NOTHING,
    Bounds,
    Keeper,
    State,
    Units,
    respond,
)
from perennial.preloads.systemd_notify import notify

if TYPE_CHECKING:
    from perennial.preloads.messages import KeeperReport

logger = logging.getLogger("perennial.keeper")

#: Seconds without a message after which it looks by itself whether all runs that shall.
QUIET = 2.0
#: Seconds between two looks, however many messages come.
PACE = 0.2
#: Seconds in which the relay must take an answer.
ANSWER = 1.0
#: The keeper's file below its folder.
FILE = "wanted.json"

#: systemd's word for a unit's state → ours. The others mean that it is not there.
_STATES: dict[str, State] = {
    "active": "running",
    "reloading": "running",
    "activating": "starting",
    "deactivating": "leaving",
}
_WRITES = "`perennial up` or `pulumi up` writes it anew"

_CLUSTER = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,30}")


@dataclass(frozen=True, slots=True)
class Settings:
    """A keeper's configuration: the JSON file that a deploy has written for it."""

    #: The cluster's name.
    cluster: str
    #: The system user whose relay may ask.
    user: str
    #: Where it may.
    socket: Path
    #: Folder of what the keeper remembers.
    state: Path
    #: How many members of each group may run on this machine.
    groups: dict[str, int]
    #: What each member may use, of every group that the machine has, and the other services.
    bounds: Bounds


class SystemdUnits:
    """Instances of the groups' template units, under the machine's own systemd."""

    def __init__(self, cluster: str, groups: Collection[str]) -> None:
        self._prefixes = {group: f"dask-{cluster}-{group}@" for group in groups}

    def states(self) -> dict[str, dict[int, State]]:
        """Look what is there."""
        found: dict[str, dict[int, State]] = {group: {} for group in self._prefixes}
        known = systemd.states([f"{prefix}.service" for prefix in self._prefixes.values()])
        for group, prefix in self._prefixes.items():
            whole = re.compile(re.escape(prefix) + r"(0|[1-9][0-9]{0,5})\.service")
            for name, unit in known.items():
                match, state = whole.fullmatch(name), _STATES.get(unit["ActiveState"])
                if match and state:
                    found[group][int(match[1])] = state
        return found

    def start(self, group: str, numbers: Collection[int]) -> None:
        """Start members; does not wait."""
        systemd.start(self._names(group, numbers), (), wait=False, say=logger.info)

    def stop(self, group: str, numbers: Collection[int]) -> None:
        """Have members drain and stop; does not wait."""
        systemd.stop_later(self._names(group, numbers))

    def _names(self, group: str, numbers: Collection[int]) -> list[str]:
        return [f"{self._prefixes[group]}{number:d}.service" for number in numbers]


class RelaySocket:
    """The socket on which one user's process may ask, one packet for each message."""

    def __init__(self, path: Path, user: str) -> None:
        entry = pwd.getpwnam(user)
        self._uid = entry.pw_uid
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        new = path.with_suffix(".new")  # the path itself always leads to a complete socket
        new.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            self._listener.bind(str(new))
        finally:
            os.umask(before)
        # Its unit puts root into the user's group: so it may give the socket to that group.
        os.chown(new, -1, entry.pw_gid)
        new.chmod(0o660)
        self._listener.listen(4)
        new.replace(path)
        self._peer: socket.socket | None = None

    def receive(self, seconds: float) -> bytes | None:
        """Wait for a message; None when none has come in time."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            heard = [self._listener, *([self._peer] if self._peer else [])]
            ready, _, _ = select.select(heard, [], [], left)
            if self._listener in ready:
                self._accept()
            elif self._peer in ready and (message := self._read()):
                return message
        return None

    def answer(self, said: bytes) -> None:
        """Answer the last message; whoever does not take the answer has to connect anew."""
        if self._peer is not None:
            try:
                self._peer.sendall(said)
            except OSError:
                self._close()

    def _accept(self) -> None:
        """Accept a new connection in the place of the last one, if it is the right user's."""
        with suppress(OSError):
            peer, _ = self._listener.accept()
            size = struct.calcsize("3i")
            said = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
            _, uid, _ = struct.unpack("3i", said)
            if uid != self._uid:
                peer.close()
                return
            self._close()
            peer.settimeout(ANSWER)
            self._peer = peer

    def _read(self) -> bytes | None:
        """Read a message; what is longer than allowed is cut off, and refused for its length."""
        with suppress(OSError):
            if self._peer is not None and (message := self._peer.recv(LONGEST + 1)):
                return message
        self._close()
        return None

    def _close(self) -> None:
        if self._peer is not None:
            self._peer.close()
        self._peer = None


def read(path: Path) -> Settings:
    """Read a keeper's configuration."""
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise PerennialError(f"{path}: {error.strerror}; {_WRITES}") from None
    except ValueError as error:
        raise PerennialError(f"{path}: not valid JSON ({error}); {_WRITES}") from None
    for key, is_right in _RIGHT.items():
        if not isinstance(found, dict) or not is_right(found.get(key)):
            raise PerennialError(f"{path}: {key} is missing or wrong; {_WRITES}")
    for key in found:
        if key not in _RIGHT:
            raise PerennialError(f"{path}: {key} is not known; {_WRITES}")
    if not found["groups"].keys() <= found["uses"].keys():
        raise PerennialError(f"{path}: uses lacks a group; {_WRITES}")
    return Settings(
        found["cluster"],
        found["user"],
        Path(found["socket"]),
        Path(found["state"]),
        found["groups"],
        Bounds({name: Use(*use) for name, use in found["uses"].items()}, found["services"]),
    )


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("/")


def _is_groups(value: Any) -> bool:
    return isinstance(value, dict) and all(
        _CLUSTER.fullmatch(name) and type(most) is int and 0 <= most <= manifest.MOST
        for name, most in value.items()
    )


def _is_uses(value: Any) -> bool:
    return isinstance(value, dict) and all(
        _CLUSTER.fullmatch(name)
        and isinstance(use, list)
        and len(use) == 2
        and all(map(_is_amount, use))
        for name, use in value.items()
    )


def _is_amount(value: Any) -> bool:
    return type(value) is int and value >= 0


#: Key → whether its value is one.
_RIGHT = {
    "cluster": lambda value: isinstance(value, str) and bool(_CLUSTER.fullmatch(value)),
    "user": lambda value: isinstance(value, str) and bool(_USER.fullmatch(value)),
    "socket": _is_path,
    "state": _is_path,
    "groups": _is_groups,
    "uses": _is_uses,
    "services": _is_amount,
}


def keeper(settings: Settings, units: Units, lock: Path) -> Keeper:
    """Make what keeps a machine's members; a deploy holds the lock while it changes the machine."""
    return Keeper(settings.groups, settings.state / FILE, lock, units, settings.bounds)


def run(own: Keeper, relay: RelaySocket) -> None:
    """Do what the relay asks, and keep running what shall run without it, for ever."""
    message: bytes | None = None
    blind, ready = "", False
    while True:
        began = time.monotonic()
        try:
            report = respond(own, message or NOTHING)
            said, now = json.dumps(report), status(report)
            ready, failed = True, ""
        except PerennialError as error:  # refused, or the service manager does not answer
            said, now = json.dumps({"error": str(error)}), str(error)
            failed = now
        if failed and failed != blind:
            logger.warning("%s", failed)
        blind = failed
        notify(*(["READY=1"] if ready else []), "WATCHDOG=1", f"STATUS={now}")
        if message:
            relay.answer(said.encode())
        time.sleep(max(0.0, began + PACE - time.monotonic()))
        message = relay.receive(QUIET)


def status(report: KeeperReport) -> str:
    """Return the members of a machine in one line, for ``systemctl status``."""
    groups, trouble = report["groups"], report["trouble"]
    parts = [f"{len(each['wanted'])} of {each['most']} {name}" for name, each in groups.items()]
    return "; ".join([*parts, *([trouble] if trouble else [])])


def main(path: str) -> int:
    """Run until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        settings = read(Path(path))
        units = SystemdUnits(settings.cluster, settings.bounds.uses)
        relay = RelaySocket(settings.socket, settings.user)
        run(keeper(settings, units, manifest.lock(settings.cluster)), relay)
    except PerennialError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
