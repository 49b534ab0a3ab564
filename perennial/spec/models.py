"""The cluster file, validated: what a person may write, with its meaning and its defaults.

The JSON Schema, the reference page and the errors all come from these models. Nothing here
knows a platform: the platform's own options are looked up in the registry of
`perennial.registry` when a file names its platform (see `cluster_model`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    ValidationInfo,
    WithJsonSchema,
    create_model,
    model_validator,
)

from perennial import registry
from perennial.spec import dask_config, ports
from perennial.spec.environment import Requirements
from perennial.spec.scaling import Scale, Scaler
from perennial.spec.strict import Model, UnlessFalse
from perennial.spec.units import (
    GIB,
    NAME_PATTERN,
    AbsolutePath,
    Amount,
    Duration,
    Folder,
    LocalPath,
    Name,
    Port,
    PortRange,
    Refusal,
    ResourceName,
    Size,
    name_like,
    refuse,
    refuse_all,
)
from perennial.spec.variables import Arguments, Module, Umask, Variables

#: Names that a group may not have, because a service or a part of a name has them.
RESERVED_NAMES = (
    "scheduler",
    "jupyter",
    "scaler",
    "relay",
    "keeper",
    "supervisord",
    "health",
    "client",
    "worker",
)


def _not_reserved(name: str, info: ValidationInfo) -> str:
    # One that is remembered may be of others: the main group of a Helm release is called `worker`.
    if name in RESERVED_NAMES and not (info.context or {}).get("remembered"):
        raise refuse(f"group names other than {', '.join(RESERVED_NAMES)}", "rename the group")
    return name


GroupName = Annotated[
    str,
    name_like("cpu"),
    AfterValidator(_not_reserved),
    WithJsonSchema(
        {"type": "string", "pattern": NAME_PATTERN, "not": {"enum": list(RESERVED_NAMES)}}
    ),
]

DaskConfig = Annotated[dict[str, Any], AfterValidator(dask_config.check)]


class Environment(Model):
    """What every service of the cluster runs in."""

    python: AbsolutePath | None = Field(default=None, examples=["/opt/conda/envs/dask/bin/python"])
    """Python interpreter that runs the services; it has dask-perennial installed. On the platform
    local the interpreter that runs `perennial` when it is not given."""

    requirements: Requirements | None = None
    """File of requirements, from the folder of the cluster file, or the requirements themselves.
    Each machine makes its environment from them. dask-perennial is sent there from where
    `perennial` runs, whether they name it or not."""

    wheelhouse: LocalPath | None = None
    """Folder of wheels, from the folder of the cluster file. Packages come from it alone, for
    machines without internet."""

    build: bool = False
    """Whether the machines may build packages of which there is no wheel. That runs the code of
    these packages while they are installed, as a user of its own."""

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        refusals = []
        if self.python is not None and self.requirements is not None:
            refusals.append(Refusal("python or requirements", "remove one", ("requirements",)))
        if self.wheelhouse is not None and self.requirements is None:
            fix = "add `requirements: requirements.txt`"
            refusals.append(Refusal("a wheelhouse for requirements", fix, ("wheelhouse",)))
        if self.build and self.requirements is None:
            refusals.append(Refusal("true for requirements", "remove it", ("build",)))
        if refusals:
            raise refuse_all(refusals)
        return self


class Scheduler(Model):
    """The cluster's Dask scheduler."""

    port: Port = 8786
    """Port on which clients and workers reach the scheduler."""

    dashboard_port: Port = 8787
    """Port of Dask's dashboard, on loopback only and with a token, unless
    security.open_dashboard says otherwise; JupyterLab needs no port."""

    memory: Size = 4 * GIB
    """Memory that the service manager grants to the scheduler, where it can limit memory."""

    watchdog: Duration = 60.0
    """A scheduler whose event loop has not answered for so long is restarted; `0 s` never."""


class WorkerGroup(Model):
    """A named set of identical workers."""

    count: int = Field(default=1, ge=0, le=100_000)
    """First number of members; fixed when there is no `scale`. With `scale`, when it is not
    given, min, but at least 1 where max allows it. On the platform hosts, when it is not given,
    one for each machine that has the group."""

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

    env: Variables = Field(default_factory=dict, examples=[{"OMP_NUM_THREADS": "1"}])
    """Environment variables of the group's workers, over those of the cluster."""

    preload: list[Module] = Field(
        default_factory=list, max_length=20, title="modules", examples=[["mylab.setup"]]
    )
    """Modules that each worker process loads when it starts (Dask's `--preload`)."""

    nanny_preload: list[Module] = Field(
        default_factory=list, max_length=20, title="modules", examples=[["mylab.nanny"]]
    )
    """Modules that each nanny loads when it starts (Dask's `--preload-nanny`)."""

    extra_args: Arguments = Field(
        default_factory=list, title="arguments", examples=[["--death-timeout", "300"]]
    )
    """More arguments of `dask worker`, for what no key stands for."""

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        scale = self.scale
        if scale is None:
            return self
        if "count" not in self.model_fields_set:
            # Not by a copy: to the platform it still is a size that nobody has written.
            self.__dict__["count"] = max(scale.min, min(1, scale.max))
        elif not scale.min <= self.count <= scale.max:
            allowed = f"{scale.min} to {scale.max}, the bounds in scale"
            raise refuse(allowed, "change count or the bounds", "count")
        return self

    @property
    def most(self) -> int:
        """The largest number of members that the file allows."""
        return self.scale.most if self.scale else self.count


class Jupyter(Model):
    """JupyterLab, on the cluster and connected to it."""

    port: Port = 8888
    """Port of JupyterLab, which asks for its token."""

    directory: Folder = "~/notebooks"
    """Folder of the notebooks; it stays when the cluster is taken down."""

    memory: Size = 4 * GIB
    """Memory for JupyterLab and its kernels, where the service manager can limit memory."""

    idle: Duration = 0.0
    """A kernel that has done nothing for so long is shut down; `0 s` never."""

    certificate: LocalPath | None = Field(default=None, examples=["jupyter.pem"])
    """File of the certificate with which JupyterLab serves HTTPS, from the folder of the cluster
    file; one of the cluster's own authority when it is not given. Not on the platform local,
    where JupyterLab is on loopback."""

    key: LocalPath | None = Field(default=None, examples=["jupyter-key.pem"])
    """File of the certificate's private key."""

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        for one, other in (("certificate", "key"), ("key", "certificate")):
            if getattr(self, one) is not None and getattr(self, other) is None:
                raise refuse("certificate and key, or neither", f"add {other} or remove it", one)
        return self


class Security(Model):
    """Who may connect to the cluster."""

    tls: bool = Field(default=True, title="TLS")
    """Mutual TLS with the cluster's own certificate authority. Without it anybody who reaches
    the scheduler's port runs code on the cluster."""

    open_dashboard: bool = Field(default=False, title="open dashboard")
    """Dask's dashboard without its token, also on the address of the scheduler: whoever reaches
    its port reads logs, tracebacks with their values, names of tasks and lines of source."""


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

    jupyter: Annotated[Jupyter | None, UnlessFalse()] = Field(default_factory=Jupyter)
    """JupyterLab; `null` or `false` for none."""

    scaler: Annotated[Scaler | None, UnlessFalse()] = Field(default_factory=Scaler)
    """The service that sizes the groups which have a `scale`; `null` or `false` for none: then
    `perennial scale` alone changes their size."""

    protocol: Literal["tcp", "ucx"] = "tcp"
    """Protocol between Dask's processes. `ucx` is for InfiniBand and NVLink: it needs the package
    distributed-ucxx, has no TLS, and makes the scheduler and Jupyter create a CUDA context,
    unless `dask` says otherwise."""

    security: Security = Field(default_factory=Security)
    """Who may connect to the cluster."""

    dask: DaskConfig = Field(
        default_factory=dict, examples=[{"distributed.scheduler.work-stealing": True}]
    )
    """Dask's own configuration for every service, by dotted key or nested."""

    env: Variables = Field(default_factory=dict, examples=[{"PYTHONPATH": "/opt/lab/modules"}])
    """Environment variables of the scheduler, the workers and Jupyter. A value is text or
    `{file: PATH}`: the first line of a file, from the folder of the cluster file. Variables are no
    place for secrets: each process of the same user sees them."""

    umask: Umask = "077"
    """What others may not do with the files that tasks and notebooks make, as three octal digits in
    quotes: "027" lets the group read them. Keys, tokens and what the services keep stay their
    user's alone."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        """Look at what no key can say alone, and let the platform look as well."""
        options = getattr(self, getattr(self, "platform", ""), None)
        refusals = [*self._names_taken(), *self._ucx_in_the_clear(), *self._beyond_budget()]
        places: Iterable[ports.PortUse] = ()
        if options is not None:
            refusals += options.refusals(self)
            places = options.port_uses(self)
        refusals += ports.refusals(self, places)
        if refusals:
            raise refuse_all(dict.fromkeys(refusals))
        return self if options is None else self._sized(options.counts(self))

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

    def _ucx_in_the_clear(self) -> Iterator[Refusal]:
        if self.protocol == "ucx" and self.security.tls:
            yield Refusal(
                "tcp, since Dask has no TLS over ucx",
                "or write `security: {tls: false}`: then whoever reaches the scheduler's port"
                " runs code on the cluster, so keep its network to yourself",
                ("protocol",),
            )

    def _beyond_budget(self) -> Iterator[Refusal]:
        least = sum(
            scale.cost * max(scale.min, *(scale.bounds(each)[0] for each in scale.schedules), 0)
            for scale in (self.workers[name].scale for name in self.scaled)
            if scale is not None
        )
        budget = self.scaler.budget if self.scaler is not None else None
        if budget is not None and least > budget:
            yield Refusal(
                f"at least {least:g}, what the groups cost for an hour with their min members",
                "raise it, or lower min or cost of a group",
                ("scaler", "budget"),
            )

    def _sized(self, counts: Mapping[str, int]) -> Self:
        """Set the sizes of groups that the platform's options say."""
        workers = {
            name: group.model_copy(update={"count": counts[name]}) if name in counts else group
            for name, group in self.workers.items()
        }
        return self.model_copy(update={"workers": workers}) if counts else self

    def ports(self) -> Mapping[str, int]:
        """List the fixed ports of the cluster, by key path."""
        ports = {
            "scheduler.port": self.scheduler.port,
            "scheduler.dashboard_port": self.scheduler.dashboard_port,
        }
        if self.jupyter is not None:
            ports["jupyter.port"] = self.jupyter.port
        if self.scaler is not None and self.scaled:
            ports["scaler.port"] = self.scaler.port
        return ports

    @property
    def scaled(self) -> tuple[str, ...]:
        """Names of the groups whose size belongs to the scaler."""
        if self.scaler is None:
            return ()
        return tuple(name for name, group in self.workers.items() if group.scale is not None)

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
        A platform of the registry in `perennial.registry`.
    """
    options = registry.options(platform)
    description = (options.__doc__ or "").partition("\n")[0]
    required = any(field.is_required() for field in options.model_fields.values())
    default: dict[str, Any] = {} if required else {"default_factory": options}
    fields: dict[str, Any] = {
        "platform": (Literal[platform], Field(description="Where the cluster stands.")),
        platform: (options, Field(description=description, **default)),
    }
    return create_model("ClusterSpec", __base__=ClusterSpec, __doc__=ClusterSpec.__doc__, **fields)
