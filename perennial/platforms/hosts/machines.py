"""What a person writes of a machine that is reached over SSH."""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler, WithJsonSchema
from pydantic_core import CoreSchema

from perennial.platforms.hosts.keys import HostKey, Identity, PrivateKey
from perennial.spec.strict import Model
from perennial.spec.units import Duration, Port, Worded, refuse

_MOST_MEMBERS = 100_000

Address = Annotated[
    str,
    Worded(
        "An IP address or a host name.",
        "machine-a.example.org",
        r"[A-Za-z0-9]([A-Za-z0-9._-]{0,252}[A-Za-z0-9])?\.?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*",
        "an IP address or a host name",
        "write a machine's address alone, and its user and port under user and port",
    ),
]
MachineName = Annotated[
    str,
    Worded(
        "A DNS label.",
        "machine-a",
        r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?",
        "a name of 1 to 40 letters a-z, digits and -, with no - first or last",
        "write a name such as machine-a",
    ),
]
User = Annotated[
    str,
    Worded("A user.", "ops", r"[^\s@:/-][^\s@:/]*", "the name of a user", "write it alone"),
]
Jump = Annotated[
    str,
    Worded(
        "Machines on the way.",
        "ops@bastion.example.org",
        r"[^\s,-][^\s,]*(,[^\s,-][^\s,]*)*",
        "USER@HOST:PORT, several with commas between them",
        "write it as in ProxyJump of ssh_config",
    ),
]
Interface = Annotated[
    str,
    Worded(
        "A network interface.",
        "ib0",
        r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,14}",
        "the name of a network interface",
        "write a name that `ip link` shows",
    ),
]


def _role(value: Any) -> Any:
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and value:
        for name, count in value.items():
            whole = isinstance(count, int) and not isinstance(count, bool)
            if not whole or not 0 <= count <= _MOST_MEMBERS:
                allowed = f"a whole number from 0 to {_MOST_MEMBERS}"
                raise refuse(allowed, "write how many members it has here", str(name))
        return value
    raise refuse("scheduler, jupyter, a group, or a group and its count", "write `cpu` or `cpu: 2`")


Role = Annotated[
    Any,
    BeforeValidator(_role),
    WithJsonSchema(
        {
            "description": "`scheduler`, `jupyter`, a group, or a group with its count there.",
            "type": ["string", "object"],
            "additionalProperties": {"type": "integer", "minimum": 0, "maximum": _MOST_MEMBERS},
            "minProperties": 1,
        }
    ),
]


class Reach(Model):
    """How machines are reached."""

    user: User | None = None
    """User to log in as, who under systemd may `sudo` without a password; `~/.ssh/config` decides
    when it is not given."""

    port: Port | None = Field(default=None, examples=[22])
    """Port of SSH; `~/.ssh/config` decides when it is not given."""

    identity: Identity | None = None
    """File of the private key; the agent and `~/.ssh/config` decide when it is not given."""

    private_key: PrivateKey | None = Field(default=None, repr=False)
    """Text of the private key, in the place of `identity`: for programs, which have it as a
    secret. It has no passphrase."""

    host_key: HostKey | None = None
    """Public host keys, one a line, in the place of a file of known hosts; a line may begin with
    `@cert-authority`. `accept-new` takes the first key that the machine shows, and adds it to
    `known_hosts` or `~/.ssh/known_hosts`: a machine with another key is refused after that."""

    jump: Jump | None = None
    """Machines to go through, as in ssh_config's `ProxyJump`."""

    jump_host_key: HostKey | None = None
    """As `host_key`, for the machine in `jump`, which then is a single one."""

    connect_timeout: Duration | None = Field(default=None, examples=["5 min"])
    """How long a deployment tries to connect to a machine that does not answer yet, such as one
    that has just been created; once when it is not given."""

    init: Literal["systemd", "supervisord"] | None = Field(default=None, examples=["systemd"])
    """What keeps the services running. `systemd`, which is the default, needs `root` or `sudo`.
    `supervisord` needs neither: the services run as the login user, below that user's home
    folder."""

    @property
    def needs_root(self) -> bool:
        """Whether the services are the system's, and not those of the login user."""
        return self.init != "supervisord"


class Machine(Reach):
    """A machine of the cluster."""

    address: Address
    """IP address or host name of its SSH; also of its services, unless `internal` says
    otherwise."""

    name: MachineName | None = Field(default=None, examples=["machine-a"])
    """Its name in the cluster; the first label of its host name, or its IP address with dashes,
    when it is not given."""

    roles: list[Role] | None = Field(
        default=None, min_length=1, max_length=200, title="roles", examples=[["cpu"]]
    )
    """What runs there: `scheduler`, `jupyter`, names of groups, groups with their counts
    (`cpu: 2`). When no machine has roles, the first one has the scheduler and Jupyter, and the
    groups are spread over the others."""

    interface: Interface | None = None
    """Network interface on whose address its services listen, such as one of InfiniBand."""

    internal: Address | None = None
    """IP address or host name by which other machines reach its services, where it is not
    `address`."""

    @property
    def called(self) -> str:
        """Its name, given or made from its address."""
        return self.name or _name_of(self.address)

    @property
    def service_host(self) -> str:
        """Where its services are reached."""
        return self.internal or self.address


class _ShortForm:
    """Lets an address stand for a machine."""

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Say the same in the JSON Schema."""
        return {"anyOf": [{"type": "string"}, handler(core)]}


def _from_address(value: Any) -> Any:
    return {"address": value} if isinstance(value, str) else value


Entry = Annotated[Machine, BeforeValidator(_from_address), _ShortForm()]


def _name_of(address: str) -> str:
    """Make a DNS label: ``machine-a``, ``10-0-0-3``."""
    try:
        ip_address(address)
    except ValueError:
        address = address.partition(".")[0]
    return re.sub(r"[^a-z0-9]", "-", address.lower()).strip("-")[:40].rstrip("-")
