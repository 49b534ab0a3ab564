"""A machine that is reached over SSH, and the machines on the way to it."""

from __future__ import annotations

from dataclasses import dataclass, field

from perennial.errors import PerennialError


@dataclass(frozen=True, slots=True)
class Hop:
    """How a machine is reached: one to work on, or one on the way to it."""

    #: What messages call it.
    name: str
    #: DNS name, IP address, or a ``Host`` of ``~/.ssh/config``.
    address: str
    #: Login name; None here and below for what the configuration says.
    user: str | None = None
    #: SSH port.
    port: int | None = None
    #: File of the key to log in with.
    identity: str | None = None
    #: Jump hosts before it.
    jump: str | None = None
    #: File of the known host keys.
    known_hosts: str | None = None
    #: Its host keys, one a line, in the place of such a file; or `perennial.ssh.keys.ACCEPT_NEW`.
    host_key: str | None = None
    #: The same of the one jump host before it.
    jump_host_key: str | None = None
    #: Text of the key to log in with, in the place of a file.
    private_key: str | None = field(default=None, repr=False)


def parse_jump(text: str) -> list[Hop]:
    """Read jump hosts, written as ``ssh -J`` takes them."""
    hops = []
    for part in (word.strip() for word in text.split(",")):
        user, _, place = part.removeprefix("ssh://").rpartition("@")
        host, port = place, ""
        if place.startswith("["):
            host, _, port = place[1:].partition("]")
            port = port.removeprefix(":")
        elif place.count(":") == 1:
            host, port = place.split(":")
        if not host or host.startswith("-") or (port and not port.isdecimal()):
            raise PerennialError(
                f"{part!r} is no host to connect through; write it as USER@HOST or USER@HOST:PORT"
            )
        hops.append(Hop(part, host, user or None, int(port) if port else None))
    return hops


def jump_option(text: str) -> str:
    """Write jump hosts as every ``ssh -J`` reads them: an IPv6 address in brackets."""
    return ",".join(
        (f"{hop.user}@" if hop.user else "")
        + (f"[{hop.address}]" if ":" in hop.address else hop.address)
        + (f":{hop.port}" if hop.port else "")
        for hop in parse_jump(text)
    )


def label(target: Hop) -> str:
    """Return what messages call a machine."""
    if target.name == target.address:
        return target.name
    return f"{target.name} ({target.address})"
