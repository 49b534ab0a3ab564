"""A cluster on Fargate, as a person writes it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from perennial.aws.fields import Arn
from perennial.aws.options import AwsOptions
from perennial.platforms.fargate.sizes import MIB, PROCESSORS, SizeRequest, TaskSize, nearest
from perennial.spec.strict import Model
from perennial.spec.units import Refusal, Size, Worded, about, refuse

if TYPE_CHECKING:
    from perennial.spec.models import ClusterSpec

#: Seconds after which Fargate kills a task that was told to stop; less what its process needs to
#: leave once it is drained (see `perennial.services.dask.worker`).
STOP, LEAVE = 120, 30
#: Images that have Dask and nothing of dask-perennial.
_STOCK = re.compile(r"(docker\.io/)?daskdev/.*|ghcr\.io/dask/.*")


def _vcpu(value: float) -> float:
    if value not in PROCESSORS:
        raise refuse(f"one of {', '.join(f'{each:g}' for each in PROCESSORS)}", "correct it")
    return value


Vcpu = Annotated[
    float,
    AfterValidator(_vcpu),
    WithJsonSchema({"type": "number", "minimum": PROCESSORS[0], "maximum": PROCESSORS[-1]}),
]
Image = Annotated[
    str,
    Worded(
        "A container image.",
        "123456789012.dkr.ecr.eu-central-1.amazonaws.com/dask:1",
        r"[A-Za-z0-9]([A-Za-z0-9._/:@-]{0,500}[A-Za-z0-9])?",
        "an image such as 123456789012.dkr.ecr.eu-central-1.amazonaws.com/dask:1",
        "correct the image",
    ),
]


Storage = Annotated[int, Field(ge=21, le=200)]


class FargateTask(Model):
    """What can be said of tasks: of all, of a service, or of a group."""

    image: Image | None = None
    """Container image with dask-perennial inside; JupyterLab's has JupyterLab as well. `perennial
    render` writes a recipe for one."""

    cpu: Vcpu | None = None
    """Virtual processors; as many as there are threads when it is not given, or the next size that
    Fargate has."""

    memory: Size | None = None
    """Memory of a task; what its processes need when it is not given, in the next size that Fargate
    has."""

    ephemeral_storage: Storage | None = None
    """GiB of disk for its image and what workers spill; 20 when it is not given."""


class FargateGroup(FargateTask):
    """The tasks of a worker group."""

    base: int = Field(default=0, ge=0, le=1000)
    """Members that are never on Spot; the others are divided by the two weights."""

    on_demand: int = Field(default=1, ge=0, le=1000)
    """Weight of members that AWS does not take back."""

    spot: int = Field(default=0, ge=0, le=1000)
    """Weight of members on Fargate Spot, which AWS may take back with two minutes' notice."""

    healthy: int = Field(default=100, ge=0, le=100)
    """Per cent of the group that stays while a new version is rolled out."""

    surge: int = Field(default=100, ge=0, le=100)
    """Per cent of the group that a rolled out version may start beyond its size."""

    @model_validator(mode="after")
    def _can_start_and_move(self) -> Self:
        if self.on_demand == 0 and self.spot == 0:
            raise refuse("1 or more where spot is 0", "raise one of them", "on_demand")
        if self.healthy == 100 and self.surge == 0:
            raise refuse("1 or more where healthy is 100", "raise it, or lower healthy", "surge")
        return self


class Options(AwsOptions):
    """Services of ECS on Fargate; what stands here holds for every task."""

    image: Image = Field(examples=["123456789012.dkr.ecr.eu-central-1.amazonaws.com/dask:1"])
    """Container image of every service that has none of its own, with dask-perennial inside."""

    ephemeral_storage: Storage | None = None
    """GiB of disk of every task that says nothing of its own."""

    architecture: Literal["x86_64", "arm64"] = "x86_64"
    """Architecture of the images."""

    platform_version: Literal["LATEST", "1.4.0"] = "LATEST"
    """Platform version of Fargate."""

    user: int = Field(default=10001, ge=1, le=2**31 - 1)
    """Number of the user and the group that run every container."""

    exec: bool = True
    """Whether whoever has the right `ExecuteCommand` of ECS reaches the scheduler and JupyterLab by
    SSM, as `perennial connect --port-forward` and `perennial open` do; never the workers."""

    load_balancer: bool = False
    """An internal load balancer for clients from other networks. It passes TLS through."""

    policies: list[Arn] = Field(
        default_factory=list,
        max_length=8,
        title="ARNs of policies",
        examples=[["arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"]],
    )
    """Managed policies for tasks and notebooks, such as to read buckets. Without them workers have
    no rights at all."""

    scheduler: FargateTask = Field(default_factory=FargateTask)
    """What holds for the scheduler's task alone."""

    workers: dict[str, FargateGroup] = Field(
        default_factory=dict, examples=[{"cpu": {"base": 1, "on_demand": 0, "spot": 1}}]
    )
    """What holds for the tasks of one group, by its name."""

    jupyter: FargateTask = Field(default_factory=FargateTask)
    """What holds for JupyterLab's task alone."""

    scaler: FargateTask = Field(default_factory=FargateTask)
    """What holds for the scaler's task alone."""

    def group(self, name: str) -> FargateGroup:
        """Return what holds for a group."""
        return self.workers.get(name, FargateGroup())

    def task(self, key: str) -> FargateTask:
        """Return what holds for a service or a group; what it leaves open holds for all."""
        services = {"scheduler": self.scheduler, "jupyter": self.jupyter, "scaler": self.scaler}
        own = services.get(key) or self.group(key)
        disk = own.ephemeral_storage or self.ephemeral_storage
        open_to_all = {"image": own.image or self.image, "ephemeral_storage": disk}
        return own.model_copy(update=open_to_all)

    def size(self, spec: ClusterSpec, key: str) -> TaskSize:
        """Return the size of the tasks of a service or a group."""
        found = self._request(spec, key).smallest()
        if found is None:
            raise ValueError(f"{key}: no such size, which `refusals` has said")
        return found

    def _request(self, spec: ClusterSpec, key: str) -> SizeRequest:
        own, (processors, memory) = self.task(key), needed(spec, key)
        return SizeRequest(processors, memory, own.cpu, own.memory)

    def refusals(self, spec: ClusterSpec) -> Iterator[Refusal]:
        """Refuse what a task cannot have."""
        yield from super().refusals(spec)
        yield from self._of_environment(spec)
        for name in self.workers:
            if name not in spec.workers:
                yield Refusal(
                    f"names of groups: {', '.join(spec.workers)}",
                    "correct the name",
                    ("fargate", "workers", name),
                    key=True,
                )
        for name, group in spec.workers.items():
            if group.drain > STOP - LEAVE:
                yield Refusal(
                    f"at most {STOP - LEAVE} s on the platform fargate",
                    f"shorten it: AWS kills a task {STOP} s after it was told to stop",
                    ("workers", name, "drain"),
                )
        for key in _keys(spec):
            yield from self._of_size(spec, key)

    def _of_environment(self, spec: ClusterSpec) -> Iterator[Refusal]:
        if spec.environment.requirements is not None:
            yield Refusal(
                "an image with its packages on the platform fargate",
                "put them into the image",
                ("environment", "requirements"),
            )
        if spec.jupyter is not None and spec.jupyter.certificate is not None:
            yield Refusal(
                "the cluster's own certificate on the platform fargate",
                "remove certificate and key",
                ("jupyter", "certificate"),
            )
        if spec.umask != "077":
            yield Refusal('"077" on the platform fargate', "remove it", ("umask",))
        places = {("fargate", "image"): self.image, ("fargate", "scaler", "image"): ""}
        services = {key: getattr(self, key).image for key in ("scheduler", "jupyter", "scaler")}
        places |= {("fargate", key, "image"): image or "" for key, image in services.items()}
        for name, own in self.workers.items():
            places["fargate", "workers", name, "image"] = own.image or ""
        for at, image in places.items():
            if _STOCK.fullmatch(image):
                yield Refusal(
                    "an image with dask-perennial inside",
                    "`perennial render` writes a recipe for one",
                    at,
                )

    def _of_size(self, spec: ClusterSpec, key: str) -> Iterator[Refusal]:
        at = ("fargate", key) if key in _SERVICES else ("fargate", "workers", key)
        request = self._request(spec, key)
        size = request.smallest()
        if size is None:
            near = "; ".join(map(str, nearest(request.asked)))
            yield Refusal(
                f"a size that Fargate has for the tasks of {key}, of which the nearest are: {near}",
                "choose one, or change threads, processes or memory",
                at,
                found=str(request.asked),
            )
        elif size.memory * MIB < request.memory:
            yield Refusal(
                f"at least {about(request.memory)} for the tasks of {key}: its processes need them",
                "raise it, or lower the memory of its processes",
                (*at, "memory"),
            )


_SERVICES = ("scheduler", "jupyter", "scaler")


def _keys(spec: ClusterSpec) -> Iterator[str]:
    yield "scheduler"
    yield from spec.workers
    if spec.jupyter is not None:
        yield "jupyter"
    if spec.scaled:
        yield "scaler"


def needed(spec: ClusterSpec, key: str) -> tuple[float, int]:
    """Return the processors and the bytes that the processes of a part need."""
    from perennial.services import worker_memory

    fixed: dict[str, tuple[float, Any]] = {
        "scheduler": (1.0, spec.scheduler.memory),
        "jupyter": (1.0, spec.jupyter.memory if spec.jupyter else 0),
        "scaler": (0.25, spec.scaler.memory if spec.scaler else 0),
    }
    if key in fixed:
        return fixed[key]
    group = spec.workers[key]
    return float(group.threads * group.processes), worker_memory(group)
