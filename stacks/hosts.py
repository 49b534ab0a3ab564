"""A cluster on machines that are reached over SSH."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Any

import pulumi

from perennial import ssh
from perennial.errors import PerennialError
from perennial.platforms.hosts import deploy
from perennial.platforms.hosts import share as sharing
from perennial.platforms.hosts.claims import claims
from perennial.platforms.hosts.secrets import own_certificate
from perennial.spec import ClusterSpec

from . import room
from .host_resources import ClusterAuthority, HostEnvironment, HostServices
from .journal import entries
from .quick import unchanged

#: Beside the component: what `perennial up` asks before and after the engine.
__all__ = ["Cluster", "HostsCluster", "entries", "stop_scheduler", "unchanged"]

#: Time that a machine may take: a large environment over a slow line, a long drain.
PATIENCE = "4h"


class HostsCluster(pulumi.ComponentResource):
    """A scheduler, worker groups and Jupyter on hosts.

    Its children are ``authority``, and ``<machine>-environment`` and ``<machine>-services`` for
    each machine; these names are a contract. The scheduler's machine is deployed first, because
    a worker is ready when its scheduler knows it; the others side by side, and one of them that
    fails keeps no other from being finished.

    Parameters
    ----------
    name : str
        Name of the component.
    spec : ClusterSpec
        The cluster file.
    opts : pulumi.ResourceOptions or None
        Pulumi's own options.
    force : bool
        Deploy members although their machine cannot hold what they may use.
    """

    scheduler_address: pulumi.Output[str]
    dashboard_url: pulumi.Output[str | None]
    jupyter_url: pulumi.Output[str | None]
    connection: pulumi.Output[dict[str, Any]]
    fleets: pulumi.Output[dict[str, Any]]

    def __init__(
        self,
        name: str,
        spec: ClusterSpec,
        opts: pulumi.ResourceOptions | None = None,
        *,
        force: bool = False,
    ) -> None:
        super().__init__("perennial:hosts:HostsCluster", name, None, opts)
        self._room = room.described(spec, force)
        shares = sharing.shares(spec)
        authority = ClusterAuthority("authority", spec.name, self._child())
        secrets = _secrets(spec, authority)
        first: list[pulumi.Resource] = []
        for share in sorted(shares.values(), key=lambda share: not share.runs("scheduler")):
            made = self._machine(spec, share, secrets, first)
            first = first or [made]
        self._register(spec, shares, authority)

    def _child(self, *after: pulumi.Resource) -> pulumi.ResourceOptions:
        times = pulumi.CustomTimeouts(create=PATIENCE, update=PATIENCE, delete=PATIENCE)
        # A machine has one of each: made first, the new one would be removed with the old one.
        return pulumi.ResourceOptions(
            parent=self,
            depends_on=list(after),
            custom_timeouts=times,
            delete_before_replace=True,
        )

    def _machine(
        self,
        spec: ClusterSpec,
        share: sharing.Share,
        secrets: pulumi.Output[dict[str, Any]],
        first: Sequence[pulumi.Resource],
    ) -> HostServices:
        values = sharing.to_json(share)
        machine = share.target.name
        wish = sharing.wish(spec, share)
        environment = HostEnvironment(
            f"{machine}-environment", values["target"], wish, claims(share), self._child()
        )
        after = self._child(environment, *first)
        return HostServices(f"{machine}-services", values, secrets, self._room, after)

    def _register(
        self,
        spec: ClusterSpec,
        shares: dict[str, sharing.Share],
        authority: ClusterAuthority,
    ) -> None:
        outside = sharing.connection_parts(spec)
        self.scheduler_address = pulumi.Output.from_input(outside.scheduler)
        self.jupyter_url = pulumi.Output.from_input(outside.jupyter)
        self.dashboard_url = pulumi.Output.from_input(outside.dashboard)
        tls = {"ca": authority.ca, "cert": authority.client, "key": authority.client_key}
        parts = {
            "cluster": spec.name,
            "scheduler_address": outside.scheduler,
            "dashboard_link": outside.dashboard,
            "jupyter_url": outside.jupyter,
            "token": authority.token if spec.jupyter is not None else None,
            "tls": tls if spec.security.tls else None,
        }
        self.connection = pulumi.Output.secret(pulumi.Output.all(**parts))
        self.fleets = pulumi.Output.from_input(sharing.fleets(spec))
        self.register_outputs(
            {
                "scheduler_address": self.scheduler_address,
                "dashboard_url": self.dashboard_url,
                "jupyter_url": self.jupyter_url,
                "connection": self.connection,
                "fleets": self.fleets,
            }
        )


#: What the registry of stacks looks for.
Cluster = HostsCluster


def log_in(spec: ClusterSpec) -> None:
    """Log in to the machines, for the engine's processes, which have no terminal."""
    ssh.log_in(share.target for share in sharing.shares(spec).values())


def stop_scheduler(spec: ClusterSpec, had: Collection[str], say: Callable[[str], None]) -> None:
    """Stop the scheduler before all the rest: no member then drains for those that go as well."""
    for name, share in sharing.shares(spec).items():
        if name in had and share.runs("scheduler"):
            with suppress(PerennialError):  # what is in the way is said when it is removed
                say(f"stopping the scheduler on {name}")
                deploy.stop_scheduler(share, say)


def _secrets(spec: ClusterSpec, authority: ClusterAuthority) -> pulumi.Output[dict[str, Any]]:
    """Collect what a machine's certificates and its Jupyter are made of."""
    certificate, key = own_certificate(spec) or (None, None)
    return pulumi.Output.secret(
        pulumi.Output.all(
            ca=authority.ca,
            ca_key=authority.ca_key,
            token=authority.token,
            jupyter_certificate=certificate,
            jupyter_key=key,
        )
    )
