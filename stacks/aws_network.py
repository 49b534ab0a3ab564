"""The network of a cluster on AWS: a VPC that is given, or a small one; security groups."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import pulumi
from pulumi_aws import ec2, vpc

from perennial.aws import names
from perennial.aws.addresses import ZoneSubnets, subnets
from perennial.spec import ClusterSpec

from .aws import Account, gathered

#: Ports of everything.
ALL = "-1"
_ANYWHERE = "0.0.0.0/0"
_CLIENTS = "options.network.clients"

#: Gives the first and the last port of a group's processes.
PortsOf = Callable[[ClusterSpec, str], tuple[int, int]]


@dataclass(frozen=True, slots=True)
class PlacedNetwork:
    """Where services are put."""

    vpc: pulumi.Input[str]
    #: Private subnets, and what each is called here: the letter of its zone, or its place.
    subnets: tuple[tuple[str, pulumi.Input[str]], ...]
    #: All of them: their number may be known only later.
    every_subnet: pulumi.Input[Sequence[pulumi.Input[str]]]
    #: What has to be there before a service can reach AWS.
    ready: tuple[pulumi.Resource, ...] = ()


@dataclass(frozen=True, slots=True)
class Opening:
    """A range of ports that a security group opens."""

    #: What is reached, in a word: it names the rule.
    title: str
    first: pulumi.Input[int]
    last: pulumi.Input[int]
    #: A security group, or a network; the other one is None.
    group: pulumi.Input[str] | None = None
    cidr: pulumi.Input[str] | None = None


def network(account: Account, endpoints: Sequence[str]) -> PlacedNetwork:
    """Return the given VPC, or register one; ``endpoints`` names services such as ``ecr.api``."""
    wanted = account.spec.options.network
    if not wanted.is_made:
        every = account.at("options.network.subnets")
        listed = pulumi.Output.from_input(every)
        one_by_one = tuple((str(place), listed[place]) for place in range(len(wanted.subnets)))
        return PlacedNetwork(account.at("options.network.vpc"), one_by_one, every)
    made = ec2.Vpc(
        account.title("vpc"),
        cidr_block=wanted.cidr,
        enable_dns_hostnames=True,
        enable_dns_support=True,
        tags=account.tags("network"),
        opts=account.options(),
    )
    places = subnets(wanted.cidr, wanted.zones)
    private = {each.zone: _subnet(account, made.id, each, public=False) for each in places}
    tables = {zone: _table(account, made.id, zone, subnet.id) for zone, subnet in private.items()}
    ready: list[pulumi.Resource] = [
        ec2.VpcEndpoint(
            account.title("endpoint-s3"),
            vpc_id=made.id,
            service_name=f"com.amazonaws.{account.spec.options.region}.s3",
            vpc_endpoint_type="Gateway",
            route_table_ids=[table.id for table in tables.values()],
            tags=account.tags("network"),
            opts=account.options(),
        )
    ]
    if wanted.nat != "none":
        ready += _nat(account, made.id, places, tables)
    ids: list[pulumi.Input[str]] = [subnet.id for subnet in private.values()]
    if wanted.endpoints:
        ready += _endpoints(account, made, ids, endpoints)
    return PlacedNetwork(made.id, tuple(zip(private, ids, strict=True)), ids, tuple(ready))


def security_group(account: Account, part: str, where: PlacedNetwork) -> ec2.SecurityGroup:
    """Register a security group that lets everything out and, by itself, nothing in."""
    made = ec2.SecurityGroup(
        account.title(f"{part}-group"),
        name=names.name_of(account.spec.name, part),
        description=f"{part} of the Dask cluster {account.spec.name}",
        vpc_id=where.vpc,
        tags=account.tags(part),
        opts=account.options(),
    )
    out = vpc.SecurityGroupEgressRule(
        account.title(f"{part}-out"),
        security_group_id=made.id,
        ip_protocol=ALL,
        cidr_ipv4=_ANYWHERE,
        description="images, data, and the rest of the cluster",
        tags=account.tags(part),
        opts=account.options(),
    )
    account.needed.append(out)
    return made


def with_given(account: Account, group: ec2.SecurityGroup) -> pulumi.Output[list[str]]:
    """List the security groups of a service: one of ours, and those that the file names."""
    return gathered(_joined, own=group.id, more=account.at("options.network.security_groups"))


def _joined(own: str, more: list[str]) -> list[str]:
    return [own, *more]


def open_to(
    account: Account, part: str, group: ec2.SecurityGroup, openings: Iterable[Opening]
) -> None:
    """Open ports of a security group, one rule each."""
    for each in openings:
        vpc.SecurityGroupIngressRule(
            account.title(f"{part}-from-{each.title}"),
            security_group_id=group.id,
            ip_protocol="tcp",
            from_port=each.first,
            to_port=each.last,
            description=f"from {each.title}",
            referenced_security_group_id=each.group,
            cidr_ipv4=each.cidr,
            tags=account.tags(part),
            opts=account.options(),
        )


def clients(account: Account, key: str) -> Iterator[Opening]:
    """Open the port of a service to each network and security group that the file names."""
    port, named = account.at(f"{key}.port"), pulumi.Output.from_input(account.at(_CLIENTS))
    for place in range(len(account.spec.options.network.clients)):
        yield Opening(
            f"{key}-client-{place}",
            port,
            port,
            # Which of the two it is says only its value, which may be an Output.
            group=named.apply(partial(_client, place, False)),
            cidr=named.apply(partial(_client, place, True)),
        )


def _client(place: int, is_network: bool, every: Sequence[str]) -> Any:
    return every[place] if ("/" in every[place]) is is_network else None


def members(
    account: Account, ports_of: PortsOf, sources: Mapping[str, ec2.SecurityGroup]
) -> list[Opening]:
    """Say who reaches the ports of workers: each range once, or all as one where one is an Output.

    AWS refuses a second rule of the same ports, and which these are says only the Output's value.
    """
    found = [
        account.value(
            partial(_ports, ports_of, group),
            *(f"workers.{group}.{each}" for each in ("ports", "processes")),
        )
        for group in account.spec.workers
    ]
    ranges: list[tuple[str, pulumi.Input[int], pulumi.Input[int]]]
    if any(isinstance(each, pulumi.Output) for each in found):
        one = pulumi.Output.all(*found).apply(_around)
        ranges = [("members", one[0], one[1])]
    else:
        # Of those that begin with the same port the longest.
        known = dict(sorted(cast(list[tuple[int, int]], found)))
        ranges = [(str(first), first, last) for first, last in sorted(known.items())]
    return [
        Opening(f"{title}-{name}", first, last, group=source.id)
        for title, source in sources.items()
        for name, first, last in ranges
    ]


def _around(ranges: Sequence[Sequence[int]]) -> tuple[int, int]:
    return min(first for first, _ in ranges), max(last for _, last in ranges)


def _ports(ports_of: PortsOf, group: str, spec: ClusterSpec) -> tuple[int, int]:
    return ports_of(spec, group)


def _subnet(
    account: Account, within: pulumi.Input[str], zone: ZoneSubnets, public: bool
) -> ec2.Subnet:
    kind = "public" if public else "private"
    return ec2.Subnet(
        account.title(f"{kind}-{zone.zone}"),
        vpc_id=within,
        availability_zone=f"{account.spec.options.region}{zone.zone}",
        cidr_block=zone.public if public else zone.private,
        map_public_ip_on_launch=False,
        tags=account.tags(f"{kind}-{zone.zone}"),
        opts=account.options(),
    )


def _table(
    account: Account, within: pulumi.Input[str], name: str, subnet: pulumi.Input[str]
) -> ec2.RouteTable:
    table = ec2.RouteTable(
        account.title(f"routes-{name}"),
        vpc_id=within,
        tags=account.tags("network"),
        opts=account.options(),
    )
    ec2.RouteTableAssociation(
        account.title(f"routes-of-{name}"),
        route_table_id=table.id,
        subnet_id=subnet,
        opts=account.options(),
    )
    return table


def _nat(
    account: Account,
    within: pulumi.Input[str],
    places: Sequence[ZoneSubnets],
    tables: dict[str, ec2.RouteTable],
) -> list[pulumi.Resource]:
    """Lead the private subnets to the internet, by one gateway or one in each zone."""
    gateway = ec2.InternetGateway(
        account.title("internet"),
        vpc_id=within,
        tags=account.tags("network"),
        opts=account.options(),
    )
    wanted = places if account.spec.options.network.nat == "per_zone" else places[:1]
    routes: list[pulumi.Resource] = []
    gateways: dict[str, ec2.NatGateway] = {}
    for each in wanted:
        subnet = _subnet(account, within, each, public=True)
        table = _table(account, within, f"public-{each.zone}", subnet.id)
        out = ec2.Route(
            account.title(f"internet-{each.zone}"),
            route_table_id=table.id,
            destination_cidr_block=_ANYWHERE,
            gateway_id=gateway.id,
            opts=account.options(),
        )
        address = ec2.Eip(
            account.title(f"address-{each.zone}"),
            domain="vpc",
            tags=account.tags("network"),
            opts=account.options(gateway),
        )
        gateways[each.zone] = ec2.NatGateway(
            account.title(f"nat-{each.zone}"),
            allocation_id=address.id,
            subnet_id=subnet.id,
            tags=account.tags("network"),
            opts=account.options(out),
        )
    for zone, table in tables.items():
        by = gateways.get(zone, gateways[wanted[0].zone])
        routes.append(
            ec2.Route(
                account.title(f"out-{zone}"),
                route_table_id=table.id,
                destination_cidr_block=_ANYWHERE,
                nat_gateway_id=by.id,
                opts=account.options(),
            )
        )
    return routes


def _endpoints(
    account: Account, within: ec2.Vpc, places: Sequence[pulumi.Input[str]], services: Sequence[str]
) -> list[pulumi.Resource]:
    """Reach AWS's own services from within the VPC, by HTTPS."""
    group = ec2.SecurityGroup(
        account.title("endpoints-group"),
        name=names.name_of(account.spec.name, "endpoints"),
        description=f"endpoints of the Dask cluster {account.spec.name}",
        vpc_id=within.id,
        tags=account.tags("network"),
        opts=account.options(),
    )
    open_to(
        account,
        "endpoints",
        group,
        [Opening("vpc", 443, 443, cidr=account.spec.options.network.cidr)],
    )
    return [
        ec2.VpcEndpoint(
            account.title(f"endpoint-{service.replace('.', '-')}"),
            vpc_id=within.id,
            service_name=f"com.amazonaws.{account.spec.options.region}.{service}",
            vpc_endpoint_type="Interface",
            private_dns_enabled=True,
            subnet_ids=[*places],
            security_group_ids=[group.id],
            tags=account.tags("network"),
            opts=account.options(),
        )
        for service in services
    ]
