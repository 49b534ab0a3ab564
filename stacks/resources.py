"""The provider's own resources, as a program registers them."""

from collections.abc import Mapping
from typing import Any, ClassVar

import pulumi

from .provider import authority, certificate, hosts, local
from .provider.kinds import Kind
from .provider.values import Values, keep_nulls


class _Resource(pulumi.CustomResource):
    """What the provider makes; its kind says which outputs are known only then."""

    kind: ClassVar[type[Kind]]
    #: Its class in a dynamic provider of an earlier version, if it had one.
    earlier_type: ClassVar[str] = ""

    def __init__(
        self,
        name: str,
        props: Mapping[str, Any],
        earlier_name: str = "",
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        dynamic = f"pulumi-python:dynamic/perennial:{self.earlier_type}"
        aliases = [pulumi.Alias(earlier_name, type_=dynamic), pulumi.Alias(earlier_name)]
        aliases = aliases if earlier_name else []
        super().__init__(
            self.kind.type,
            name,
            {**keep_nulls(props), **dict.fromkeys(self.kind.computed)},
            pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(aliases=[*aliases])),
        )


class Authority(_Resource):
    """The certificate authority of a cluster, its client's certificate and Jupyter's token."""

    kind = authority.Authority
    earlier_type = "ClusterAuthority"

    ca: pulumi.Output[str]
    ca_key: pulumi.Output[str]
    client: pulumi.Output[str]
    client_key: pulumi.Output[str]
    token: pulumi.Output[str]
    created: pulumi.Output[str]
    ends: pulumi.Output[str]


class Certificate(_Resource):
    """A certificate of a role, signed by a cluster's authority."""

    kind = certificate.Certificate

    cert: pulumi.Output[str]
    key: pulumi.Output[str]
    ends: pulumi.Output[str]


class HostEnvironment(_Resource):
    """The Python environment on a machine."""

    kind = hosts.HostEnvironment
    earlier_type = "HostEnvironment"

    facts: pulumi.Output[Values]
    drift: pulumi.Output[list[str]]


class HostServices(_Resource):
    """The services on a machine: units, configuration, certificates."""

    kind = hosts.HostServices
    earlier_type = "HostServices"

    outcome: pulumi.Output[Values]
    drift: pulumi.Output[list[str]]


class LocalServices(_Resource):
    """The services of a cluster on this machine."""

    kind = local.LocalServices
    earlier_type = "LocalServices"

    connection: pulumi.Output[Values]
    credentials: pulumi.Output[Values]
    drift: pulumi.Output[list[str]]
