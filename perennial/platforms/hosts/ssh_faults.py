"""Says in one line why a machine cannot be reached or logged in to, and what to do."""

from __future__ import annotations

import errno
import shlex
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perennial.errors import FleetError
from perennial.platforms.hosts import keys

if TYPE_CHECKING:
    import asyncssh

_FIREWALL = "look whether the machine is up and whether a firewall is in between"


class UnreachableError(FleetError):
    """A machine does not answer, or the connection to it was lost."""


@dataclass(frozen=True, slots=True)
class Place:
    """A machine that a connection was tried to."""

    #: What messages call it.
    where: str
    #: How the cluster file or the configuration calls it.
    address: str
    #: What the connection was tried with.
    options: asyncssh.SSHClientConnectionOptions
    #: The jump hosts that it was tried through, as ``ssh -J`` takes them.
    through: str
    #: File in which the machine's key belongs.
    known_hosts: str


async def explain(error: Exception, place: Place, ring: keys.Ring, client: Any) -> FleetError:
    """Say why a login did not come about."""
    import asyncssh

    where, options = place.where, place.options
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        return FleetError(f"{where}: {_host_key(place, error, client)}")
    if isinstance(error, asyncssh.KeyExchangeFailed) and "host key" in error.reason:
        return FleetError(
            f"{where}: the machine has no host key of the type that it is known by; "
            f"if it was set up anew: {_forget(place)}, then `{_introduce(place)}`"
        )
    if isinstance(error, asyncssh.PermissionDenied) or "uthentication failures" in str(error):
        return FleetError(f"{where}: {await _denied(options, ring)}")
    if isinstance(error, asyncssh.ChannelOpenError):
        jump = place.through.split(",")[-1]
        return UnreachableError(
            f"{where}: {jump} cannot connect to {options.host} port {options.port} "
            f"({error.reason}); look whether it may (AllowTcpForwarding) and whether sshd listens"
        )
    if isinstance(error, asyncssh.ConnectionLost | OSError):
        return UnreachableError(f"{where}: {_ended(options, error)}")
    return FleetError(
        f"{where}: no SSH connection to {options.host} port {options.port} ({error}); "
        "look at sshd's log there"
    )


def network_fault(faults: Sequence[OSError], host: str, port: int) -> str:
    """Say why no address of a machine could be connected to."""
    if any(fault.errno == errno.ECONNREFUSED for fault in faults):
        return f"{host} refused the connection to port {port}; start sshd there or correct `port`"
    if any(isinstance(fault, TimeoutError) for fault in faults):
        return f"{host} does not answer at port {port}; {_FIREWALL}"
    if any(fault.errno in {errno.EHOSTUNREACH, errno.ENETUNREACH} for fault in faults):
        return f"there is no route to {host}; look at the network, or name a `jump` host"
    said = "; ".join(str(fault.strerror or fault) for fault in faults)
    return f"no connection to {host} port {port} ({said}); {_FIREWALL}"


def unresolved(where: str, host: str, error: socket.gaierror) -> UnreachableError:
    """Say that a name leads nowhere."""
    return UnreachableError(
        f"{where}: the name {host} does not resolve ({error.strerror}); correct `address`, or "
        "add it to DNS, /etc/hosts or ~/.ssh/config"
    )


def silent(where: str, timeout: float) -> UnreachableError:
    """Say that nothing came in time."""
    return UnreachableError(f"{where}: no answer within {timeout:g} s; {_FIREWALL}")


def process_fault(where: str, status: int, stderr: str) -> FleetError:
    """Say why a command on a machine failed."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    said = lines[-1] if lines else "it said nothing"
    lower = stderr.lower()
    if "sudo:" in lower and ("password" in lower or "terminal is required" in lower):
        return FleetError(
            f"{where}: sudo asks for a password, and nobody is there to type it; allow the login "
            "user `NOPASSWD: ALL` in /etc/sudoers.d, or log in as root (`user: root`)"
        )
    if "not in the sudoers file" in lower or "not allowed to execute" in lower:
        return FleetError(
            f"{where}: the login user may not use sudo ({said}); allow it in /etc/sudoers.d, or "
            "log in as root (`user: root`)"
        )
    if status == 127 or "command not found" in lower:
        return FleetError(
            f"{where}: a command is missing there ({said}); install it (sudo and python3 are "
            "needed), or log in as root where there is no sudo"
        )
    if status == 126:
        return FleetError(f"{where}: a command may not be run there ({said}); look at its mode")
    if status > 128:
        return FleetError(f"{where}: the command was ended by signal {status - 128} ({said})")
    return FleetError(f"{where}: the command failed with exit status {status} ({said})")


def _ended(options: asyncssh.SSHClientConnectionOptions, error: Exception) -> str:
    if options.proxy_command:
        return (
            f"the ProxyCommand of the SSH configuration ended before the login ({error}); try "
            f"`{' '.join(options.proxy_command)}` by hand"
        )
    return (
        f"port {options.port} of {options.host} ended the connection before the login ({error}); "
        "look whether sshd listens there, and at its log"
    )


def _host_key(place: Place, error: asyncssh.HostKeyNotVerifiable, client: Any) -> str:
    key = client.key
    if "revoked" in error.reason:
        return "the machine's host key is revoked in the known hosts; do not log in there"
    if key is None:
        return f"the machine's host key cannot be trusted ({error.reason}); look at the known hosts"
    print_ = f"{key.get_algorithm()} {key.get_fingerprint()}"
    if client.changed:
        return (
            f"the host key has CHANGED to {print_}: somebody may be in between. If the machine "
            f"was set up anew: {_forget(place)}, then `{_introduce(place)}`"
        )
    return (
        f"the host key is not known: found {print_}; compare it with the machine's own "
        f"(`ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub` there), then `{_introduce(place)}`"
    )


def _introduce(place: Place) -> str:
    """Write the command that makes a machine's key known."""
    options, file = place.options, place.known_hosts
    if not place.through and not options.proxy_command and not options.host_key_alias:
        port = f"-p {options.port} " if options.port != 22 else ""
        return f"ssh-keyscan {port}{options.host} >> {_quoted(file)}"
    # Only ssh itself goes through jump hosts; it asks.
    words = [f"-o UserKnownHostsFile={_quoted(file)}"]
    if place.through:
        words.append(f"-J {place.through}")
    if options.port != 22:
        words.append(f"-p {options.port}")
    return f"ssh {' '.join(words)} {options.username}@{place.address} true"


def _forget(place: Place) -> str:
    options = place.options
    host = options.host_key_alias or options.host
    entry = host if options.port == 22 else f"'[{host}]:{options.port}'"
    return f"`ssh-keygen -R {entry} -f {_quoted(place.known_hosts)}`"


def _quoted(file: str) -> str:
    """Quote a file for the shell, which is to expand a leading ``~/``."""
    return f"~/{shlex.quote(file[2:])}" if file.startswith("~/") else shlex.quote(file)


async def _denied(options: asyncssh.SSHClientConnectionOptions, ring: keys.Ring) -> str:
    """Say as whom and with which keys a login was tried."""
    user = options.username
    count = await _agent_keys(options, ring)
    tried = [*ring.files, *([f"{count} of the agent's keys"] if count else [])]
    locked = ", ".join(ring.locked)
    if not tried and not locked:
        return (
            f"found no key to log in as {user} with; make one with `ssh-keygen`, start an agent, "
            "or set `identity`"
        )
    text = f"login as {user} was denied"
    if tried:
        text += f", tried {', '.join(tried)}"
    if locked:
        text += f"; {locked} has a passphrase: `ssh-add {ring.locked[0]}`"
        return text + " hands it to the agent"
    return text + "; add its public half to authorized_keys there, or set `user` or `identity`"


async def _agent_keys(options: asyncssh.SSHClientConnectionOptions, ring: keys.Ring) -> int:
    import asyncssh

    if not options.agent_path or ring.agent == []:
        return 0
    try:
        agent = await asyncssh.connect_agent(options.agent_path)
    except (OSError, asyncssh.Error):
        return 0
    try:
        found = [key.public_data for key in await agent.get_keys()]
    except (OSError, ValueError, asyncssh.Error):
        return 0
    finally:
        agent.close()
    return len([key for key in found if ring.agent is None or key in ring.agent])
