"""A machine that is reached over SSH, and the machines on the way to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from perennial.errors import PerennialError


class TargetLike(Protocol):
    """What must be known of a machine to reach it; see `perennial.hosts.share.Target`."""

    @property
    def name(self) -> str:
        """Name in the cluster file, for messages."""

    @property
    def address(self) -> str:
        """DNS name, IP address, or a ``Host`` of ``~/.ssh/config``."""

    @property
    def user(self) -> str | None:
        """Login name; None for what the configuration says."""

    @property
    def port(self) -> int | None:
        """SSH port; None for what the configuration says."""

    @property
    def identity(self) -> str | None:
        """File of the key to log in with; None for the usual ones."""

    @property
    def jump(self) -> str | None:
        """Jump hosts, such as ``me@bastion:2222,inner``."""

    @property
    def known_hosts(self) -> str | None:
        """File of the known host keys; None for the usual ones."""


@dataclass(frozen=True, slots=True)
class Hop:
    """A machine on the way to another one, or a bastion."""

    #: What messages call it.
    name: str
    #: DNS name, IP address, or a ``Host`` of ``~/.ssh/config``.
    address: str
    #: Login name.
    user: str | None = None
    #: SSH port.
    port: int | None = None
    #: File of the key to log in with.
    identity: str | None = None
    #: Jump hosts before it.
    jump: str | None = None
    #: File of the known host keys.
    known_hosts: str | None = None


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


def label(target: TargetLike) -> str:
    """Return what messages call a machine."""
    if target.name == target.address:
        return target.name
    return f"{target.name} ({target.address})"
