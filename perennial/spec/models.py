"""The cluster file, validated: what a person may write, with its meaning and its defaults.

The JSON Schema, the reference page and the errors all come from these models. Nothing here
knows a platform: the platform's own options are looked up in the registry of
`perennial.fleets` when a file names its platform (see `cluster_model`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    WithJsonSchema,
    create_model,
    model_validator,
)

from perennial import fleets
from perennial.spec import dask_config
from perennial.spec.units import (
    GIB,
    NAME_PATTERN,
    AbsolutePath,
    Amount,
    Duration,
    Folder,
    Name,
    Port,
    PortRange,
    Refusal,
    ResourceName,
    Size,
    refuse,
    refuse_all,
)

#: Names that a group may not have, because a service or a part of a name has them.
RESERVED_NAMES = ("scheduler", "jupyter", "scaler", "supervisord", "health", "client", "worker")


def _not_reserved(name: str) -> str:
    if name in RESERVED_NAMES:
        raise refuse(f"group names other than {', '.join(RESERVED_NAMES)}", "rename the group")
    return name


GroupName = Annotated[
    Name,
    AfterValidator(_not_reserved),
    WithJsonSchema(
        {"type": "string", "pattern": NAME_PATTERN, "not": {"enum": list(RESERVED_NAMES)}}
    ),
]

DaskConfig = Annotated[dict[str, Any], AfterValidator(dask_config.check)]


class Model(BaseModel):
    """Base of everything in a cluster file: strict, closed and immutable."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        validate_default=True,
        use_attribute_docstrings=True,
        str_max_length=4096,
    )


class Environment(Model):
    """What every service of the cluster runs in."""

    python: AbsolutePath | None = Field(default=None, examples=["/opt/conda/envs/dask/bin/python"])
    """Python interpreter that runs the services; it has dask-perennial installed. The
    interpreter that runs `perennial` when it is not given."""


class Scheduler(Model):
    """The cluster's Dask scheduler."""

    port: Port = 8786
    """Port on which clients and workers reach the scheduler."""

    dashboard_port: Port = 8787
    """Port of Dask's dashboard, on loopback only: it is reached through Jupyter's login."""

    memory: Size = 4 * GIB
    """Memory that the service manager grants to the scheduler, where it can limit memory."""

    watchdog: Duration = 60.0
    """A scheduler whose event loop has not answered for so long is restarted; `0 s` never."""


class Scale(Model):
    """Bounds between which the scaler sizes a group."""

    min: int = Field(default=0, ge=0, le=100_000)
    """Smallest number of members."""

    max: int = Field(ge=0, le=100_000, examples=[4])
    """Largest number of members."""

    idle: Duration = 300.0
    """How long a member has nothing to do before it may leave."""

    @model_validator(mode="after")
    def _min_not_above_max(self) -> Self:
        if self.min > self.max:
            raise refuse(f"0 to max, which is {self.max}", "lower min or raise max", "min")
        return self


class WorkerGroup(Model):
    """A named set of identical workers."""

    count: int = Field(default=1, ge=0, le=100_000)
    """First number of members; fixed when there is no `scale`."""

    threads: int = Field(default=1, ge=1, le=1024)
    """Threads of each worker process: tasks that run at the same time."""

    processes: int = Field(default=1, ge=1, le=256)
    """Dask worker processes in a member."""

    memory: Size = 4 * GIB
    """Memory of one worker process; above it Dask spills, pauses and restarts the worker."""

    resources: dict[ResourceName, Amount] = Field(default_factory=dict, examples=[{"GPU": 1}])
    """Abstract resources of one worker process, for tasks that ask for them by name."""

    ports: PortRange | None = None
    """Ports for the group's workers and nannies; any free port when it is not given."""

    scale: Scale | None = None
    """Bounds for the scaler; without them the group keeps its size."""

    drain: Duration = 60.0
    """How long a member that is told to stop may wait for its running tasks and move its
    data to other workers."""

    dask: DaskConfig = Field(
        default_factory=dict, examples=[{"distributed.worker.memory.target": 0.5}]
    )
    """Dask's own configuration for the group, over that of the cluster."""

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        refusals = []
        if self.scale and not self.scale.min <= self.count <= self.scale.max:
            allowed = f"{self.scale.min} to {self.scale.max}, the bounds in scale"
            refusals.append(Refusal(allowed, "change count or the bounds", ("count",)))
        needed = 2 * self.processes * self.most
        if self.ports is not None and self.ports[1] - self.ports[0] + 1 < needed:
            refusals.append(
                Refusal(
                    f"at least {needed} ports: a worker process and its nanny take one each",
                    "widen the range",
                    ("ports",),
                )
            )
        if refusals:
            raise refuse_all(refusals)
        return self

    @property
    def most(self) -> int:
        """The largest number of members that the file allows."""
        return self.scale.max if self.scale else self.count


class Jupyter(Model):
    """JupyterLab, on the cluster and connected to it."""

    port: Port = 8888
    """Port of JupyterLab, which asks for its token."""

    directory: Folder = "~/notebooks"
    """Folder of the notebooks; `perennial down` leaves it as it is."""

    memory: Size = 4 * GIB
    """Memory for JupyterLab and its kernels, where the service manager can limit memory."""

    idle: Duration = 0.0
    """A kernel that has done nothing for so long is shut down; `0 s` never."""


class Security(Model):
    """Who may speak to the cluster."""

    tls: bool = Field(default=True, title="TLS")
    """Mutual TLS with the cluster's own certificate authority. Without it anybody who reaches
    the scheduler's port runs code on the cluster."""


class ClusterSpec(Model):
    """A standing Dask cluster."""

    name: Name = Field(examples=["lab"])
    """Name of the cluster, a DNS label of at most 40 letters; stands in every name that the
    platform sees."""

    platform: str = Field(examples=["local"])
    """Where the cluster stands."""

    environment: Environment = Field(default_factory=Environment)
    """What every service runs in."""

    scheduler: Scheduler = Field(default_factory=Scheduler)
    """The scheduler."""

    workers: dict[GroupName, WorkerGroup] = Field(
        min_length=1, max_length=100, examples=[{"cpu": {"count": 2, "memory": "4 GiB"}}]
    )
    """Worker groups by name."""

    jupyter: Jupyter | None = Field(default_factory=Jupyter)
    """JupyterLab; `null` for none."""

    security: Security = Field(default_factory=Security)
    """Who may speak to the cluster."""

    dask: DaskConfig = Field(
        default_factory=dict, examples=[{"distributed.scheduler.work-stealing": True}]
    )
    """Dask's own configuration for every service, by dotted key or nested."""

    @model_validator(mode="after")
    def _names_and_ports(self) -> Self:
        refusals = [*self._names_taken(), *self._ports_taken()]
        if refusals:
            raise refuse_all(refusals)
        return self

    def _names_taken(self) -> Iterator[Refusal]:
        """Refuse a group that is named like another group's member, such as ``cpu-0``."""
        for name in self.workers:
            group, _, index = name.rpartition("-")
            if index.isdigit() and group in self.workers:
                yield Refusal(
                    f"names that no member of the group {group} can have",
                    "rename the group",
                    ("workers", name),
                    key=True,
                )

    def _ports_taken(self) -> Iterator[Refusal]:
        taken = {
            f"workers.{name}.ports": group.ports
            for name, group in self.workers.items()
            if group.ports is not None
        }
        taken |= {path: (port, port) for path, port in self.ports().items()}
        seen: dict[str, tuple[int, int]] = {}
        # Of two that meet, the one that the file does not leave to its default is refused.
        for path, (first, last) in sorted(taken.items(), key=lambda item: self._wrote(item[0])):
            for other, (low, high) in seen.items():
                if first <= high and low <= last:
                    ports = str(low) if low == high else f"{low}:{high}"
                    yield Refusal(
                        f"ports beside those of {other} ({ports})",
                        "change one of the two",
                        tuple(path.split(".")),
                    )
            seen[path] = (first, last)

    def _wrote(self, path: str) -> bool:
        """Whether a port of a service stands in the file, or is a group's."""
        part, _, key = path.partition(".")
        return part == "workers" or key in getattr(self, part).model_fields_set

    def ports(self) -> Mapping[str, int]:
        """List the fixed ports of the cluster, by key path."""
        ports = {
            "scheduler.port": self.scheduler.port,
            "scheduler.dashboard_port": self.scheduler.dashboard_port,
        }
        if self.jupyter is not None:
            ports["jupyter.port"] = self.jupyter.port
        return ports

    @property
    def options(self) -> Any:
        """The platform's own options."""
        return getattr(self, self.platform)


@cache
def cluster_model(platform: str) -> type[ClusterSpec]:
    """Make the model of a cluster file for one platform: `ClusterSpec` and its options.

    Parameters
    ----------
    platform : str
        A platform of the registry in `perennial.fleets`.
    """
    options = fleets.options(platform)
    fields: dict[str, Any] = {
        "platform": (Literal[platform], Field(description="Where the cluster stands.")),
        platform: (
            options,
            Field(default_factory=options, description=(options.__doc__ or "").partition("\n")[0]),
        ),
    }
    return create_model("ClusterSpec", __base__=ClusterSpec, __doc__=ClusterSpec.__doc__, **fields)
