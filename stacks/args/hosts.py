"""Typed arguments of hosts; their keys are those of a cluster file.

Written by `docs/generate_pulumi.py` from the models: do not edit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pulumi

from .common import ClusterArgs


@dataclass(kw_only=True)
class MachineArgs:
    """A machine of the cluster."""

    user: pulumi.Input[str] | None = None
    """User to log in as, who under systemd may `sudo` without a password; `~/.ssh/config`
    decides when it is not given."""
    port: pulumi.Input[int] | None = None
    """Port of SSH; `~/.ssh/config` decides when it is not given."""
    identity: pulumi.Input[str] | None = None
    """File of the private key; the agent and `~/.ssh/config` decide when it is not given."""
    private_key: pulumi.Input[str] | None = None
    """Text of the private key, in the place of `identity`: for programs, which have it as a
    secret. It has no passphrase."""
    host_key: pulumi.Input[str] | None = None
    """Public host keys, one a line, in the place of a file of known hosts; a line may begin with
    `@cert-authority`. `accept-new` takes the first key that the machine shows, and adds it to
    `known_hosts` or `~/.ssh/known_hosts`: a machine with another key is refused after that."""
    jump: pulumi.Input[str] | None = None
    """Machines to go through, as in ssh_config's `ProxyJump`."""
    jump_host_key: pulumi.Input[str] | None = None
    """As `host_key`, for the machine in `jump`, which then is a single one."""
    connect_timeout: pulumi.Input[str | float] | None = None
    """How long a deployment tries to connect to a machine that does not answer yet, such as one
    that has just been created; once when it is not given."""
    init: Literal["systemd", "supervisord"] | None = None
    """What keeps the services running. `systemd`, which is the default, needs `root` or `sudo`.
    `supervisord` needs neither: the services run as the login user, below that user's home
    folder."""
    address: pulumi.Input[str]
    """IP address or host name of its SSH; also of its services, unless `internal` says
    otherwise."""
    name: str | None = None
    """Its name in the cluster; the first label of its host name, or its IP address with dashes,
    when it is not given."""
    roles: Sequence[str | Mapping[str, int]] | None = None
    """What runs there: `scheduler`, `jupyter`, names of groups, groups with their counts (`cpu:
    2`). When no machine has roles, the first one has the scheduler and Jupyter, and the
    groups are spread over the others."""
    interface: pulumi.Input[str] | None = None
    """Network interface on whose address its services listen, such as one of InfiniBand."""
    internal: pulumi.Input[str] | None = None
    """IP address or host name by which other machines reach its services, where it is not
    `address`."""


@dataclass(kw_only=True)
class HostsOptionsArgs:
    """Machines that are already there, reached over SSH."""

    user: pulumi.Input[str] | None = None
    """User to log in as, who under systemd may `sudo` without a password; `~/.ssh/config`
    decides when it is not given."""
    port: pulumi.Input[int] | None = None
    """Port of SSH; `~/.ssh/config` decides when it is not given."""
    identity: pulumi.Input[str] | None = None
    """File of the private key; the agent and `~/.ssh/config` decide when it is not given."""
    private_key: pulumi.Input[str] | None = None
    """Text of the private key, in the place of `identity`: for programs, which have it as a
    secret. It has no passphrase."""
    host_key: pulumi.Input[str] | None = None
    """Public host keys, one a line, in the place of a file of known hosts; a line may begin with
    `@cert-authority`. `accept-new` takes the first key that the machine shows, and adds it to
    `known_hosts` or `~/.ssh/known_hosts`: a machine with another key is refused after that."""
    jump: pulumi.Input[str] | None = None
    """Machines to go through, as in ssh_config's `ProxyJump`."""
    jump_host_key: pulumi.Input[str] | None = None
    """As `host_key`, for the machine in `jump`, which then is a single one."""
    connect_timeout: pulumi.Input[str | float] | None = None
    """How long a deployment tries to connect to a machine that does not answer yet, such as one
    that has just been created; once when it is not given."""
    init: Literal["systemd", "supervisord"] | None = None
    """What keeps the services running. `systemd`, which is the default, needs `root` or `sudo`.
    `supervisord` needs neither: the services run as the login user, below that user's home
    folder."""
    machines: Sequence[str | MachineArgs | Mapping[str, Any]]
    """The machines, each an address or a mapping."""
    known_hosts: pulumi.Input[str] | None = None
    """File of the machines' host keys; the user's own when it is not given. A machine whose key
    is not in it is refused."""
    max_unavailable: pulumi.Input[int] | None = None
    """Members of a group that a change may stop at the same time. Default: `1`."""


@dataclass(kw_only=True)
class HostsClusterArgs(ClusterArgs):
    """A standing Dask cluster, described once."""

    hosts: HostsOptionsArgs | Mapping[str, Any]
