"""Makes an SSH connection to a machine, through jump hosts where there are any.

What is taken from ``~/.ssh/config`` and then ``/etc/ssh/ssh_config``, as asyncssh reads them:
``Host``, ``Match`` (also ``exec``), ``Include``, ``Tag``; ``HostName``, ``User``, ``Port``,
``AddressFamily``, ``BindAddress``; ``IdentityFile``, ``IdentitiesOnly``, ``IdentityAgent``,
``CertificateFile``, ``PreferredAuthentications``; ``ProxyJump`` (several hops, and those that
the first hop names itself), ``ProxyCommand``; ``UserKnownHostsFile``, ``GlobalKnownHostsFile``,
``HostKeyAlias``, ``HostKeyAlgorithms``; ``Ciphers``, ``MACs``, ``KexAlgorithms``.

What is not: ``StrictHostKeyChecking`` (always strict, also with ``UserKnownHostsFile none``),
``KnownHostsCommand``, ``VerifyHostKeyDNS``, ``CheckHostIP``, ``CanonicalizeHostname`` and
``Match final``, ``ControlMaster`` and ``ControlPath``, ``AddKeysToAgent``, ``SecurityKeyProvider``,
``PubkeyAcceptedAlgorithms``, ``ConnectionAttempts``, ``BindInterface``, ``ProxyUseFdpass``; and
what would change a session that nobody looks at: ``RequestTTY``, ``RemoteCommand``, ``SendEnv``,
``SetEnv``, ``ForwardAgent``, ``ForwardX11``, ``GSSAPIDelegateCredentials``, ``LocalForward``,
``Compression``, passwords.
``ServerAliveInterval`` and ``ConnectTimeout`` are our own: a cut network must be noticed in a
time that we know.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from perennial.errors import PerennialError
from perennial.platforms.hosts import keys, ssh_faults, tcp
from perennial.platforms.hosts.ssh_faults import UnreachableError
from perennial.platforms.hosts.tcp import Meter

if TYPE_CHECKING:
    import asyncssh

#: A cut network is noticed after three questions without an answer.
KEEPALIVE = 15.0
_UNANSWERED = 2
#: What the machine gets of whoever connects: nothing. An empty tuple would stand for whatever the
#: configuration says.
_KEPT_HERE: dict[str, Any] = {
    "agent_forwarding": False,
    "gss_delegate_creds": False,
    "x11_forwarding": False,
    "env": {},
    "send_env": [],
}
_CONFIGS = ("~/.ssh/config", "/etc/ssh/ssh_config")
#: More jump hosts than anybody has: a configuration that leads in circles ends here.
_MOST_HOPS = 8


class TargetLike(Protocol):
    """What must be known of a machine to reach it; see `perennial.platforms.hosts.share.Target`."""

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
    #: Whether it is a jump host: then `identity` is tried beside the usual keys.
    on_the_way: bool = True


@dataclass(slots=True)
class Line:
    """An open connection, with the hops under it."""

    #: The connection to the machine itself.
    connection: asyncssh.SSHClientConnection
    #: The machine, for messages.
    where: str
    #: The connection to the jump host before it.
    under: Line | None = None
    #: What it runs over, where there is no jump host.
    wire: tcp.Wire | None = None

    @property
    def lost(self) -> bool:
        """Whether it has ended."""
        return self.connection.is_closed()

    def loss(self, doing: str = "") -> UnreachableError:
        """Say that the connection ended in the middle."""
        during = f" while {doing}" if doing else ""
        return UnreachableError(
            f"{self.where}: the connection was lost{during}; run this again when the machine "
            "answers, what was done stays done"
        )

    async def close(self, patience: float = 2.0) -> None:
        """End it and the hops under it; a machine that does not answer holds nobody up."""
        self.connection.close()
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self.connection.wait_closed(), patience)
        self.connection.abort()
        if self.wire is not None:
            await self.wire.end(False)
        if self.under is not None:
            await self.under.close(patience)


async def dial(target: TargetLike, timeout: float = 20.0, meter: Meter | None = None) -> Line:
    """Open a connection."""
    try:
        import asyncssh  # noqa: F401
    except ImportError:
        raise PerennialError(
            f"{target.name}: found no asyncssh, which SSH needs; "
            "`pip install 'dask-perennial[hosts]'` brings it"
        ) from None
    label = target.name if target.name == target.address else f"{target.name} ({target.address})"
    *hops, last = _route(target, label)
    line: Line | None = None
    for number, hop in enumerate(hops):
        where = f"{label}: the jump host {hop.name}"
        through = ",".join(each.name for each in hops[:number])
        line = await _dial(_Step(hop, where, line, through), timeout, meter or Meter())
    through = ",".join(each.name for each in hops)
    return await _dial(_Step(last, label, line, through), timeout, meter or Meter())


@dataclass(frozen=True, slots=True)
class _Step:
    """One connection of a route: to whom, over which one, and the names of those before."""

    hop: TargetLike
    where: str
    previous: Line | None
    through: str


async def _dial(step: _Step, timeout: float, meter: Meter) -> Line:
    """Take one step; when it fails, nothing stays open."""
    try:
        async with asyncio.timeout(timeout):
            return await _open(step, meter)
    except BaseException as error:
        if step.previous is not None:
            await step.previous.close()
        if isinstance(error, TimeoutError):
            raise ssh_faults.silent(step.where, timeout) from None
        raise


def parse_jump(text: str, known_hosts: str | None = None, identity: str | None = None) -> list[Hop]:
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
        number = int(port) if port else None
        hops.append(Hop(part, host, user or None, number, identity, None, known_hosts))
    return hops


def _route(target: TargetLike, where: str) -> list[TargetLike]:
    """Name the machines to go through, and the target itself as the last one."""
    route: list[TargetLike] = [target]
    while len(route) <= _MOST_HOPS:
        first = route[0]
        jump = first.jump or str(_options(first, where).tunnel or "")
        if not jump:
            return route
        route = [*parse_jump(jump, target.known_hosts, target.identity), *route]
    raise PerennialError(
        f"{where}: found more than {_MOST_HOPS} jump hosts; look whether ProxyJump in "
        "~/.ssh/config leads in a circle"
    )


def _options(hop: TargetLike, where: str, **more: Any) -> asyncssh.SSHClientConnectionOptions:
    """Read what the user's configuration says of a machine."""
    import asyncssh

    chosen = {"username": hop.user, "port": hop.port}
    configs = [path for path in (Path(each).expanduser() for each in _CONFIGS) if path.is_file()]
    try:
        return asyncssh.SSHClientConnectionOptions(
            host=hop.address,
            config=configs,
            known_hosts=more.pop("known_hosts", b""),
            client_keys=more.pop("client_keys", None),
            canonicalize_hostname=False,
            **_KEPT_HERE,
            **{key: value for key, value in chosen.items() if value is not None},
            **more,
        )
    except (ValueError, OSError, asyncssh.Error) as error:
        raise PerennialError(
            f"{where}: found something in the SSH configuration that cannot be used ({error}); "
            "correct it there"
        ) from None


async def _open(step: _Step, meter: Meter) -> Line:
    """Connect and log in to one machine, through the one before it."""
    import asyncssh

    hop, where, previous = step.hop, step.where, step.previous
    plain = _options(hop, where)
    known = keys.known_hosts(plain, hop.known_hosts)
    ring = keys.ring(plain, hop.identity, also_usual=isinstance(hop, Hop) and hop.on_the_way)
    client = _client(known)
    wire = await tcp.connect(plain, where, meter) if previous is None else None
    try:
        algorithms = keys.host_key_algorithms(plain, known, wire.peer if wire else "")
        options = _options(
            hop,
            where,
            known_hosts=known,
            server_host_key_algs=algorithms or (),
            client_keys=ring.files,
            agent_identities=ring.agent,
            client_factory=lambda: client,
            password_auth=False,
            kbdint_auth=False,
            compression_algs=None,
            keepalive_interval=KEEPALIVE,
            keepalive_count_max=_UNANSWERED,
            tunnel=previous.connection if previous else None,
            **({"agent_path": None} if ring.agent == [] else {}),
        )
        try:
            # What stands in its own parameters again would else be read as not given.
            connection = await asyncssh.connect(
                hop.address,
                options.port,
                tunnel=options.tunnel,
                family=options.family,
                local_addr=options.local_addr or (),
                sock=wire.sock if wire else None,
                config=None,
                options=options,
            )
        except TimeoutError:
            raise
        except (asyncssh.Error, OSError, ValueError) as error:
            file = keys.known_hosts_file(plain, hop.known_hosts)
            place = ssh_faults.Place(where, hop.address, options, step.through, file)
            raise await ssh_faults.explain(error, place, ring, client) from None
    except BaseException:
        if wire is not None:
            await wire.end(client.never_connected)
        raise
    return Line(connection, where, previous, wire)


def _client(known: Any) -> Any:
    """Make what asyncssh tells about the connection."""
    import asyncssh

    class Client(asyncssh.SSHClient):  # type: ignore[misc, unused-ignore]
        """Remembers the key that was not known."""

        never_connected = True
        key: asyncssh.SSHKey | None = None
        changed = False

        def connection_made(self, _conn: object) -> None:
            self.never_connected = False

        def validate_host_public_key(
            self, host: str, addr: str, port: int, key: asyncssh.SSHKey
        ) -> bool:
            self.key = key
            matches = known.match(host, addr, port if port != 22 else None)
            self.changed = bool(matches[0])
            return False

    return Client()
