"""The provider's own resources, as a program registers them."""

from __future__ import annotations

from typing import Any

import pulumi

from .provider.values import keep_nulls

Values = dict[str, Any]


def _options(
    opts: pulumi.ResourceOptions | None, old_name: str, old_type: str
) -> pulumi.ResourceOptions:
    """Take over what a dynamic provider of an earlier version has made, under its name then."""
    own = pulumi.ResourceOptions(
        aliases=[
            pulumi.Alias(name=old_name, type_=f"pulumi-python:dynamic/perennial:{old_type}"),
            pulumi.Alias(name=old_name),
        ]
    )
    return pulumi.ResourceOptions.merge(opts, own)


class Authority(pulumi.CustomResource):
    """The certificate authority of a cluster, its client's certificate and Jupyter's token."""

    ca: pulumi.Output[str]
    ca_key: pulumi.Output[str]
    client: pulumi.Output[str]
    client_key: pulumi.Output[str]
    token: pulumi.Output[str]
    created: pulumi.Output[str]
    ends: pulumi.Output[str]

    def __init__(self, name: str, cluster: str, opts: pulumi.ResourceOptions | None = None) -> None:
        outputs = ("ca", "ca_key", "client", "client_key", "token", "created", "ends")
        super().__init__(
            "perennial:index:Authority",
            name,
            {"cluster": cluster, **dict.fromkeys(outputs)},
            _options(opts, "authority", "ClusterAuthority"),
        )


class HostEnvironment(pulumi.CustomResource):
    """The Python environment on a machine."""

    facts: pulumi.Output[Values]
    drift: pulumi.Output[list[str]]

    def __init__(
        self,
        name: str,
        machine: str,
        props: Values,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(
            "perennial:index:HostEnvironment",
            name,
            {**props, "facts": None, "drift": None},
            _options(opts, f"{machine}-environment", "HostEnvironment"),
        )


class HostServices(pulumi.CustomResource):
    """The services on a machine: units, configuration, certificates."""

    outcome: pulumi.Output[Values]
    drift: pulumi.Output[list[str]]

    def __init__(
        self,
        name: str,
        machine: str,
        props: Values,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(
            "perennial:index:HostServices",
            name,
            {**keep_nulls(props), "outcome": None, "drift": None, "owner": None},
            _options(opts, f"{machine}-services", "HostServices"),
        )


class LocalServices(pulumi.CustomResource):
    """The services of a cluster on this machine."""

    connection: pulumi.Output[Values]
    drift: pulumi.Output[list[str]]

    def __init__(
        self, name: str, props: Values, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(
            "perennial:index:LocalServices",
            name,
            {**keep_nulls(props), "connection": None, "drift": None, "owner": None},
            _options(opts, "services", "LocalServices"),
        )
