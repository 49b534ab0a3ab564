"""What a person writes of AWS, on each of its platforms."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, field_validator, model_validator

from perennial.aws.fields import (
    AccessPointId,
    Arn,
    Cidr,
    Domain,
    FileSystemId,
    Profile,
    Region,
    Retention,
    SecurityGroupId,
    SubnetId,
    TagKey,
    TagValue,
    VpcId,
    Zone,
)
from perennial.spec.options import PlatformOptions
from perennial.spec.ports import PortUse
from perennial.spec.strict import Model
from perennial.spec.units import Refusal, refuse

if TYPE_CHECKING:
    from perennial.spec.models import ClusterSpec

#: Tags that a resource may have, less those that are ours and its name.
MOST_TAGS = 50 - 4


class AwsNetwork(Model):
    """Where the cluster stands: in a VPC that exists, or in a small one of its own."""

    vpc: VpcId | None = None
    """A VPC that exists; one is made when it is not given."""

    subnets: list[SubnetId] = Field(
        default_factory=list, max_length=16, title="subnets", examples=[["subnet-0a1b2c3d"]]
    )
    """Its private subnets, of which each leads to the internet by NAT, or has the endpoints that
    the cluster needs."""

    security_groups: list[SecurityGroupId] = Field(
        default_factory=list, max_length=3, title="security groups", examples=[["sg-0a1b2c3d"]]
    )
    """More security groups of every service, such as one that a database lets in."""

    clients: list[Cidr | SecurityGroupId] = Field(
        default_factory=list,
        max_length=20,
        title="networks and security groups",
        examples=[["10.0.0.0/8", "sg-0a1b2c3d"]],
    )
    """Networks and security groups that may reach the scheduler and JupyterLab from elsewhere; none
    when it is not given, and then `perennial connect --port-forward` leads there."""

    cidr: Cidr = "10.86.0.0/16"
    """Addresses of a VPC that is made."""

    zones: list[Zone] = Field(
        default_factory=lambda: ["a", "b"], min_length=1, max_length=6, title="letters of zones"
    )
    """Availability zones of a VPC that is made, by their letters: one private subnet in each."""

    nat: Literal["none", "single", "per_zone"] = "single"
    """How its private subnets lead to the internet: by one NAT gateway for all, by one in each
    zone, or not at all. `perennial plan` says what each costs."""

    endpoints: bool = False
    """Whether AWS's own services are reached by endpoints in a VPC that is made; without NAT they
    must be. S3 always has its own, which costs nothing."""

    domain: Domain | None = None
    """Private domain in which the scheduler has its name; `<cluster>.perennial` when it is not
    given."""

    @field_validator("clients")
    @classmethod
    def _not_the_internet(cls, clients: list[str]) -> list[str]:
        for place, each in enumerate(clients):
            if "/" in each and not IPv4Network(each, strict=False).prefixlen:
                allowed = "networks of your own"
                raise refuse(allowed, "name the network of the clients", place)
        return clients

    @field_validator("cidr")
    @classmethod
    def _large_enough(cls, cidr: str) -> str:
        try:
            size = IPv4Network(cidr).prefixlen
        except ValueError:
            raise refuse(
                "the first address of a network", "set the bits of the host to 0"
            ) from None
        if not 16 <= size <= 22:
            raise refuse("a network of /16 to /22", "write another one")
        return cidr

    @model_validator(mode="after")
    def _given_or_made(self) -> Self:
        if self.vpc is None and self.subnets:
            raise refuse("a VPC with its subnets", "add network.vpc", "subnets")
        if self.vpc is not None and not self.subnets:
            raise refuse("one or more subnets of the VPC", "add network.subnets", "vpc")
        for key in ("cidr", "zones", "nat", "endpoints"):
            if self.vpc is not None and key in self.model_fields_set:
                raise refuse("nothing beside vpc", f"remove {key}: the VPC has its own", key)
        if self.nat == "none" and self.vpc is None and not self.endpoints:
            raise refuse("true where nat is none", "write endpoints: true", "endpoints")
        if len(set(self.zones)) < len(self.zones):
            raise refuse("each letter once", "remove one of them", "zones")
        return self

    @property
    def is_made(self) -> bool:
        """Whether the VPC is the cluster's own."""
        return self.vpc is None


class AwsLogs(Model):
    """Logs in CloudWatch."""

    retention: Retention = 30
    """Days for which logs are kept."""

    keep: bool = False
    """Whether the logs stay when the cluster is taken down."""


class AwsAlarms(Model):
    """Alarms: no scheduler, no workers, a drain that is overdue, a certificate that ends."""

    topic: Arn = Field(examples=["arn:aws:sns:eu-central-1:123456789012:alarms"])
    """Topic of SNS that is told."""


class AwsNotebooks(Model):
    """A file system of EFS for notebooks. It stays when the cluster is taken down."""

    file_system: FileSystemId | None = None
    """One that exists, with a mount target in each subnet; one is made when it is not given."""

    access_point: AccessPointId | None = None
    """Access point of it; its root folder when it is not given."""

    @model_validator(mode="after")
    def _of_a_file_system(self) -> Self:
        if self.access_point is not None and self.file_system is None:
            raise refuse(
                "an access point of a file system that exists", "add file_system", "access_point"
            )
        return self


class AwsOptions(PlatformOptions):
    """What is the same on every platform of AWS."""

    region: Region = Field(examples=["eu-central-1"])
    """Region of everything."""

    profile: Profile | None = None
    """Profile of the AWS command line with which the cluster is deployed and asked here; found as
    the AWS command line does when it is not given."""

    network: AwsNetwork = Field(default_factory=AwsNetwork)
    """Where the cluster stands, and who reaches it."""

    logs: AwsLogs = Field(default_factory=AwsLogs)
    """Logs in CloudWatch."""

    alarms: AwsAlarms | None = None
    """Alarms; none when it is not given."""

    notebooks: AwsNotebooks | None = None
    """A file system for notebooks; they are gone with their machine when it is not given."""

    tags: dict[TagKey, TagValue] = Field(
        default_factory=dict, max_length=MOST_TAGS, examples=[{"cost-centre": "physics"}]
    )
    """Tags of everything that is made, beside those that name the cluster and the part."""

    permissions_boundary: Arn | None = None
    """Permissions boundary of every role that is made."""

    def port_uses(self, spec: ClusterSpec) -> Iterator[PortUse]:
        """Say that each service has a network of its own."""
        for service in dict.fromkeys(path.partition(".")[0] for path in spec.ports()):
            yield PortUse(frozenset({service}), {})
        for name in spec.workers:
            yield PortUse(frozenset(), {name: 1})

    def refusals(self, spec: ClusterSpec) -> Iterator[Refusal]:
        """Refuse what no cluster on AWS can have."""
        if spec.security.open_dashboard:
            yield Refusal(
                f"false on the platform {spec.platform}",
                "remove it: JupyterLab shows the dashboard",
                ("security", "open_dashboard"),
            )
        if not spec.security.tls:
            yield Refusal(
                f"true on the platform {spec.platform}",
                "remove it: a network of AWS's is shared with others",
                ("security", "tls"),
            )
