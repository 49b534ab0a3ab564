"""What is there: the machine's own facts, and what a cluster has on it. Changes nothing."""

from __future__ import annotations

import fcntl
import os
import pwd
import socket
import struct
import sys
import time
from array import array
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from perennial.errors import PerennialError
from perennial.platforms.hosts.agent import manifest, processes, states, systemd

if TYPE_CHECKING:
    from perennial.platforms.hosts.agent.answers import Look, Manifest, Member

_SIOCGIFCONF = 0x8912  # netdevice(7): all IPv4 addresses, with their interfaces
#: Bytes of one of them there (``struct ifreq``).
_IFREQ = 40 if struct.calcsize("P") == 8 else 32
#: More addresses than a machine has.
_MOST_ADDRESSES = 8192


def look(
    cluster: str,
    names: Sequence[str],
    interface: str | None,
    server: str,
    ports: Sequence[int],
    claims: Sequence[str],
) -> Look:
    """See in one go what a deploy must know of this machine."""
    known = manifest.known(cluster)
    found = members(cluster, known)
    own = {member["pid"] for member in found.values()}
    return {
        "time": time.time(),
        "python": sys.executable,
        "machine": machine_id(),
        "systemd": systemd.version() if systemd.booted() else 0,
        "folder": str(manifest.STATE),
        "address": service_address(interface, names, server, addresses()),
        "manifest": known,
        "files": (files := states.states(known.get("files", ()))),
        "edited": states.edited(files, known.get("expected", {})),
        "programs": states.digests(known.get("programs", ())),
        "altered": states.altered(manifest.supervised(cluster) / "conf.d", known),
        "users": [name for name in known.get("users", ()) if _is_user(name)],
        "folders": [path for path in known.get("folders", ()) if Path(path).is_dir()],
        "members": found,
        "enabled": _enabled(cluster, known),
        "taken": {str(port): who for port, who in _listeners(cluster, ports, own)},
        "clashes": clashes(cluster, claims),
    }


def clashes(cluster: str, claims: Sequence[str]) -> list[tuple[str, str]]:
    """Find units and users that another cluster has here; pairs of that cluster and the name."""
    found = []
    for file in sorted(manifest.STATE.glob("*/manifest.json")):
        if file.parent.name != cluster:
            has = manifest.read(file.parent.name)
            names = {*has.get("units", ()), *has.get("targets", ()), *has.get("users", ())}
            found += [(file.parent.name, name) for name in claims if name in names]
    return found


def members(cluster: str, known: Manifest | None = None) -> dict[str, Member]:
    """State, pid, restarts, fingerprint and begin of each service, by unit or program."""
    now = manifest.read(cluster) if known is None else known
    if now.get("init") == "supervisord":
        from perennial.platforms.hosts.agent import supervisord  # sent where it is needed

        found = supervisord.members(cluster)
    else:
        found = systemd.members(now.get("units", ())) if now else {}
    return {
        name: {**member, "since": states.since(member["pid"]) if member["pid"] else None}
        for name, member in found.items()
    }


def addresses() -> dict[str, list[str]]:
    """IP addresses of this machine by interface."""
    found: dict[str, list[str]] = {}
    for label, address in _ipv4():
        found.setdefault(label.partition(":")[0], []).append(address)
    with suppress(OSError):
        for line in Path("/proc/net/if_inet6").read_text().splitlines():
            digits, _, _, scope, _, name = line.split()
            if scope != "20":  # link-local addresses need the interface's name with them
                found.setdefault(name, []).append(str(ip_address(bytes.fromhex(digits))))
    return found


def _ipv4() -> Iterator[tuple[str, str]]:
    """List IPv4 addresses with their labels (``eth0``, ``eth0:1``), the main one first."""
    room = array("B", bytes(_IFREQ * _MOST_ADDRESSES))
    place, size = room.buffer_info()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        answer = fcntl.ioctl(probe.fileno(), _SIOCGIFCONF, struct.pack("iP", size, place))
    used, _ = struct.unpack("iP", answer)
    for begin in range(0, used, _IFREQ):
        label = room[begin : begin + 16].tobytes().partition(b"\0")[0].decode()
        yield label, socket.inet_ntoa(room[begin + 20 : begin + 24].tobytes())


def service_address(
    interface: str | None, names: Sequence[str], server: str, own: dict[str, list[str]]
) -> str:
    """Choose the address of this machine that its services listen on."""
    if interface is not None:
        if not own.get(interface):
            known = ", ".join(f"{name} ({', '.join(some)})" for name, some in own.items())
            state = "has no address" if interface in own else "is not there"
            raise PerennialError(f"interface {interface} {state}; there are {known}")
        known_as = {address for name in names for address in _resolved(name)}
        return next((each for each in own[interface] if each in known_as), own[interface][0])
    mine = {address for some in own.values() for address in some}
    for name in names:
        for address in _resolved(name):
            literal = name in (address, "localhost")
            # A machine's own name often stands for a loopback address in its /etc/hosts.
            if address in mine and (literal or not ip_address(address).is_loopback):
                return address
    if server in mine:
        return server
    raise PerennialError(
        f"none of {', '.join(names)} is an address of this machine ({', '.join(sorted(mine))});"
        " write the right one as `internal` of the machine"
    )


def listens(port: int) -> bool:
    """Whether anything listens on a port, at any address."""
    return any(True for _ in sockets([port]))


def _enabled(cluster: str, known: Manifest) -> bool:
    if known.get("init") == "supervisord":
        from perennial.platforms.hosts.agent import boot

        return boot.enabled(cluster, known.get("units", ()), known.get("crontab", ""))
    return not known.get("targets") or systemd.enabled(known["targets"])


def machine_id() -> str:
    """Name this machine, whatever it is reached by."""
    with suppress(OSError):
        return Path("/etc/machine-id").read_text().strip()
    return socket.gethostname()


def _is_user(name: str) -> bool:
    with suppress(KeyError):
        return bool(pwd.getpwnam(name))
    return False


def _resolved(name: str) -> Iterator[str]:
    with suppress(OSError, UnicodeError):
        for *_, place in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM):
            yield str(place[0])


def _listeners(
    cluster: str, ports: Sequence[int], own: Collection[int]
) -> Iterator[tuple[int, str]]:
    """Who listens on some ports, but for our own services and their children."""
    inodes = dict(sockets(ports))
    if not inodes:
        return
    ours = {pid for main in own if main for pid in family(main)}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            for handle in (process / "fd").iterdir():
                port = inodes.get(place := os.readlink(handle), 0)
                if port:
                    del inodes[place]
                if (
                    port
                    and int(process.name) not in ours
                    and not processes.marked(int(process.name), cluster)
                ):
                    yield port, f"{(process / 'comm').read_text().strip()} (pid {process.name})"
    if os.geteuid():
        for port in inodes.values():
            yield port, "a process of another user"


def sockets(ports: Collection[int]) -> Iterator[tuple[str, int]]:
    """Sockets that listen on some ports, as /proc/PID/fd names them."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                words = line.split()
                port = int(words[1].rpartition(":")[2], 16)
                if words[3] == "0A" and port in ports:
                    yield f"socket:[{words[9]}]", port


def family(pid: int) -> Iterator[int]:
    """List a process and all that descend from it."""
    yield pid
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                yield from family(int(child))
