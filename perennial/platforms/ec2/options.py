"""Instances of EC2, in groups of Auto Scaling."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from perennial.aws.fields import Arn, VolumeId
from perennial.aws.options import AwsNotebooks, AwsOptions
from perennial.platforms.ec2.capacity import architecture, capacity, fitting
from perennial.spec.strict import Model
from perennial.spec.units import GIB, AbsolutePath, Refusal, Size, Worded, format_size

if TYPE_CHECKING:
    from perennial.spec.models import ClusterSpec, WorkerGroup

#: A type for what nobody has chosen one for: scheduler, Jupyter and scaler together.
SCHEDULER_TYPE = "m7i.large"
#: Ubuntu's own parameter, which names its newest image.
_CANONICAL = "/aws/service/canonical/ubuntu/server/24.04/stable/current"
UBUNTU = f"resolve:ssm:{_CANONICAL}/{{}}/hvm/ebs-gp3/ami-id"

InstanceType = Annotated[
    str,
    Worded(
        "Type of an instance.",
        "m7i.xlarge",
        r"[a-z0-9-]{1,20}\.[a-z0-9-]{1,20}",
        "a type such as m7i.xlarge",
        "correct the type",
    ),
]
MachineImage = Annotated[
    str,
    Worded(
        "A machine image.",
        "ami-0a1b2c3d4e5f60718",
        r"ami-[0-9a-f]{8,17}|resolve:ssm:[A-Za-z0-9_./:-]{1,200}",
        "an AMI such as ami-0a1b2c3d4e5f60718, or resolve:ssm: and the name of a parameter",
        "correct the image",
    ),
]

Device = Annotated[
    str,
    Worded(
        "Device of a root disk.",
        "/dev/xvda",
        r"/dev/[a-z0-9]{3,10}",
        "a device such as /dev/sda1",
        "correct the device",
    ),
]


class Instance(Model):
    """What can be said of instances: of all, of the scheduler's, or of a group's."""

    image: MachineImage | None = None
    """Machine image with systemd and Python 3.11 or newer; Ubuntu 24.04, the newest of the day on
    which an instance starts, when it is not given. `perennial connect --port-forward` needs the
    agent of Systems Manager in it, which Ubuntu's and Amazon's own have."""

    disk: Size | None = None
    """Size of the root disk; 30 GiB when it is not given."""

    root_device: Device | None = None
    """Device of the image's root disk: `/dev/xvda` of Amazon Linux; `/dev/sda1`, which is Ubuntu's,
    when it is not given."""

    key_pair: str | None = Field(default=None, max_length=255, pattern=r"^[\x21-\x7e]+$")
    """Key pair for SSH, for those who can reach the instance; none when it is not given."""


class SchedulerInstance(Instance):
    """The instance of the scheduler, JupyterLab and the scaler."""

    instance_type: InstanceType = SCHEDULER_TYPE
    """Its type."""

    volume: Size = 20 * GIB
    """Size of the volume that outlives the instance: notebooks, and what the scaler remembers."""

    volume_id: VolumeId | None = None
    """A volume that exists, in the zone of the first subnet, such as one that `perennial down` has
    left; it always stays. One is made when it is not given."""

    keep_volume: bool = True
    """Whether a volume that was made stays when the cluster is taken down."""


class SpotInstances(Model):
    """How much of a group is spot; the rest is on demand."""

    base: int = Field(default=0, ge=0, le=100_000)
    """Members that are on demand in any case: the first ones."""

    share: int = Field(default=100, ge=1, le=100)
    """Percentage of the other members that is spot."""


class WarmPool(Model):
    """Stopped instances that have booted and installed everything.

    A member that comes from them starts, and installs nothing. A stopped instance costs its disk.
    """

    min: int = Field(default=1, ge=1, le=100_000)
    """Smallest number of stopped instances, whatever the number of members."""

    max_prepared: int | None = Field(default=None, ge=1, le=100_000, examples=[6])
    """How many instances are prepared in all: the pool has what the members leave of this number,
    and `min` at least. It always has `min` when it is not given."""

    @property
    def prepared(self) -> int:
        """How many instances are prepared in all; AWS takes `min` here for a pool of that size."""
        return self.max_prepared or self.min

    def size(self, members: int) -> int:
        """Return how many stopped instances there are beside some members."""
        return max(self.min, self.prepared - members)


class GroupInstances(Instance):
    """The instances of a worker group."""

    instance_types: list[InstanceType] = Field(
        default_factory=list,
        max_length=40,
        title="types",
        examples=[["m7i.xlarge", "m6i.xlarge"]],
    )
    """Types that may be started, the preferred first; several of them make a spot interruption
    less likely. One that fits threads and memory when it is not given."""

    spot: SpotInstances | None = None
    """Spot instances; all members are on demand when it is not given."""

    warm: WarmPool | None = None
    """A warm pool, from which members come in the time of a start; none when it is not given."""

    policies: list[Arn] = Field(
        default_factory=list,
        max_length=10,
        title="ARNs of policies",
        examples=[["arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"]],
    )
    """Policies of the group's role, for what its tasks read and write; they need
    `metadata: true`."""


class Options(AwsOptions, Instance):
    """Instances of EC2, in groups of Auto Scaling; what stands here holds for every instance."""

    python: AbsolutePath = "/usr/bin/python3"
    """Python of the image, from which the environment of the requirements is made."""

    metadata: bool = False
    """Whether tasks and notebooks may reach the metadata of their instance, and with it the rights
    of its role."""

    notebooks: AwsNotebooks | None = None
    """A file system for notebooks; they stand on the scheduler's volume when it is not given."""

    scheduler: SchedulerInstance = Field(default_factory=SchedulerInstance)
    """What holds for the instance of the scheduler, JupyterLab and the scaler."""

    workers: dict[str, GroupInstances] = Field(
        default_factory=dict, examples=[{"cpu": {"instance_types": ["m7i.xlarge"]}}]
    )
    """What holds for the instances of one group, by its name."""

    def group(self, name: str) -> GroupInstances:
        """Return what holds for a group."""
        return self.workers.get(name, GroupInstances())

    def types(self, name: str, group: WorkerGroup) -> tuple[str, ...]:
        """Return the types of a group's instances; empty where none is large enough."""
        if given := self.group(name).instance_types:
            return tuple(given)
        found = fitting(group.threads * group.processes, group.memory * group.processes)
        return (found,) if found else ()

    def disk_of(self, own: Instance) -> tuple[str, int]:
        """Return the device of an instance's root disk, and its bytes."""
        device = own.root_device or self.root_device or "/dev/sda1"
        return device, own.disk or self.disk or 30 * GIB

    def image_of(self, own: Instance, instance_type: str) -> str:
        """Return the image of an instance."""
        names = {"x86_64": "amd64", "arm64": "arm64"}
        usual = UBUNTU.format(names[architecture(instance_type)])
        return own.image or self.image or usual

    def refusals(self, spec: ClusterSpec) -> Iterator[Refusal]:
        """Refuse what an instance cannot have."""
        yield from super().refusals(spec)
        yield from _environment(spec)
        if self.network.is_made and self.network.nat == "none":
            fix = (
                "write nat: single: the scheduler's instance publishes its name through Route 53,"
                " for which a VPC has no endpoint"
            )
            yield Refusal("single or per_zone on the platform ec2", fix, _at("network", "nat"))
        if self.notebooks is not None and self.notebooks.access_point is not None:
            fix = "remove it: instances mount the root folder of the file system"
            yield Refusal(
                "no access point on the platform ec2", fix, _at("notebooks", "access_point")
            )
        for name, own in self.workers.items():
            if name not in spec.workers:
                allowed = f"names of groups: {', '.join(spec.workers)}"
                yield Refusal(allowed, "correct the name", _at("workers", name), key=True)
            if own.policies and not self.metadata:
                fix = (
                    "write metadata: true below ec2, or remove them: tasks do not get these rights"
                )
                yield Refusal("none without metadata", fix, _at("workers", name, "policies"))
            yield from _warm(name, own)
        for name, group in spec.workers.items():
            yield from self._sized(name, group)

    def _sized(self, name: str, group: WorkerGroup) -> Iterator[Refusal]:
        """Refuse a type that is too small, and types of two architectures."""
        types, wanted = self.types(name, group), group.memory * group.processes
        if not types:
            fix = f"name one in ec2.workers.{name}.instance_types"
            yield Refusal("memory that an instance of r7i has", fix, ("workers", name, "memory"))
        if len({architecture(each) for each in types}) > 1:
            fix = "name types with or without Graviton's g alone: they share an image"
            yield Refusal("types of one architecture", fix, _at("workers", name, "instance_types"))
        for each in types:
            found = capacity(each)
            if found is not None and wanted > found.usable:
                most = format_size(found.usable // group.processes // 2**20 * 2**20)
                allowed = f"at most {most} for a process on {each}"
                yield Refusal(
                    allowed, "lower it, or name a larger type", ("workers", name, "memory")
                )


def _warm(name: str, own: GroupInstances) -> Iterator[Refusal]:
    """Refuse a pool that AWS does not keep."""
    if own.warm is not None and own.spot is not None:
        fix = "remove warm or spot: AWS does not keep spot instances stopped"
        yield Refusal("none for a group with spot", fix, _at("workers", name, "warm"))
    if own.warm is not None and own.warm.prepared < own.warm.min:
        fix = "raise it, or remove it for a pool of min"
        at = _at("workers", name, "warm", "max_prepared")
        yield Refusal(f"min, {own.warm.min}, or more", fix, at)


def _environment(spec: ClusterSpec) -> Iterator[Refusal]:
    """Refuse a cluster without packages, or with some that instances cannot get."""
    if spec.environment.python is None and spec.environment.requirements is None:
        fix = "add requirements, or the Python of an image that has its packages"
        yield Refusal("python or requirements on the platform ec2", fix, ("environment",))
    if spec.environment.wheelhouse is not None:
        fix = "remove it, and make an image with the packages: environment.python"
        yield Refusal("no wheelhouse on the platform ec2", fix, ("environment", "wheelhouse"))
    if spec.jupyter is not None and spec.jupyter.certificate is not None:
        fix = "remove certificate and key"
        yield Refusal(
            "the cluster's own certificate on the platform ec2", fix, ("jupyter", "certificate")
        )


def _at(*path: str) -> tuple[str, ...]:
    return ("ec2", *path)
