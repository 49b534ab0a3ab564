"""Typed arguments of several components; their keys are those of a cluster file.

Written by `docs/generate_pulumi.py` from the models: do not edit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pulumi


@dataclass(kw_only=True)
class EnvironmentArgs:
    """What every service of the cluster runs in."""

    python: pulumi.Input[str] | None = None
    """Python interpreter that runs the services; it has dask-perennial installed. On the
    platform local the interpreter that runs `perennial` when it is not given."""
    requirements: str | Sequence[str] | None = None
    """File of requirements, from the folder of the cluster file, or the requirements themselves.
    Each machine makes its environment from them. dask-perennial is sent there from where
    `perennial` runs, whether they name it or not."""
    wheelhouse: str | None = None
    """Folder of wheels, from the folder of the cluster file. Packages come from it alone, for
    machines without internet."""
    build: bool | None = None
    """Whether the machines may build packages of which there is no wheel. That runs the code of
    these packages while they are installed, as a user of its own. Default: `False`."""


@dataclass(kw_only=True)
class SchedulerArgs:
    """The cluster's Dask scheduler."""

    port: pulumi.Input[int] | None = None
    """Port on which clients and workers reach the scheduler. Default: `8786`."""
    dashboard_port: pulumi.Input[int] | None = None
    """Port of Dask's dashboard, on loopback only and with a token, unless
    security.open_dashboard says otherwise; JupyterLab needs no port. Default: `8787`."""
    memory: pulumi.Input[str | int] | None = None
    """Memory that the service manager grants to the scheduler, where it can limit memory.
    Default: `4 GiB`."""
    watchdog: pulumi.Input[str | float] | None = None
    """A scheduler whose event loop has not answered for so long is restarted; `0 s` never.
    Default: `1 min`."""


@dataclass(kw_only=True)
class ScheduleArgs:
    """Other bounds at certain times of the week."""

    days: str | None = None
    """Days on which it begins. Default: `mon-sun`."""
    from_: str
    """When it begins, in the time zone."""
    to: str
    """When it ends: on the next day where that is not after `from`."""
    time_zone: str | None = None
    """The time zone; that of the machine on which the scaler runs when it is not given."""
    min: int | None = None
    """Smallest number of members then; that of the group when it is not given."""
    max: int | None = None
    """Largest number of members then; that of the group when it is not given."""


@dataclass(kw_only=True)
class ScaleArgs:
    """Bounds between which the scaler sizes a group, and how."""

    min: int | None = None
    """Smallest number of members. Default: `0`."""
    max: int
    """Largest number of members."""
    idle: str | float | None = None
    """How long a member has nothing to do before it may leave; chosen from the time that a new
    one takes to start, when it is not given."""
    priority: int | None = None
    """Of the groups that can run a task, those with a higher priority get members first.
    Default: `0`."""
    cost: float | None = None
    """What a member costs for an hour, in any unit: a cheaper group gets members first, and
    `scaler.budget` is in the same unit. Default: `1`."""
    start_up: str | float | None = None
    """How long a new member takes until it works: a first guess, until it has been measured.
    Default: `10 s`."""
    horizon: str | float | None = None
    """Waiting work shall be done in so much time: shorter is faster, longer is cheaper. Chosen
    from the time that a member takes to start, when it is not given."""
    step_up: float | None = None
    """Largest part of `max` that may be on its way at a time: with 1 all may. One member may
    always come. Default: `1`."""
    step_down: float | None = None
    """Largest part of its size by which a group shrinks at a time. One member may always leave.
    Default: `0.25`."""
    on_deadline: Literal["wait", "stop"] | None = None
    """What becomes of a member that is still at work when the time to `drain` is over: `wait`
    lets it finish, `stop` stops it and reports what was given up. Default: `wait`."""
    schedules: Sequence[ScheduleArgs | Mapping[str, Any]] | None = None
    """Other bounds at certain times, such as more members in working hours."""


@dataclass(kw_only=True)
class WorkerGroupArgs:
    """A named set of identical workers."""

    count: int | None = None
    """First number of members; fixed when there is no `scale`. With `scale`, when it is not
    given, min, but at least 1 where max allows it. On the platform hosts, when it is not
    given, one for each machine that has the group. Default: `1`."""
    threads: pulumi.Input[int] | None = None
    """Threads of each worker process: tasks that run at the same time. Default: `1`."""
    processes: pulumi.Input[int] | None = None
    """Dask worker processes in a member. Default: `1`."""
    memory: pulumi.Input[str | int] | None = None
    """Memory of one worker process; above it Dask spills, pauses and restarts the worker.
    Default: `4 GiB`."""
    resources: Mapping[str, pulumi.Input[float]] | None = None
    """Abstract resources of one worker process, for tasks that ask for them by name."""
    ports: str | int | Sequence[pulumi.Input[int]] | None = None
    """Ports for the group's workers and nannies; any free port when it is not given."""
    scale: ScaleArgs | Mapping[str, Any] | None = None
    """Bounds for the scaler; without them the group keeps its size."""
    drain: pulumi.Input[str | float] | None = None
    """How long a member that is told to stop may wait for its running tasks and move its data to
    other workers. Default: `1 min`."""
    dask: Mapping[str, pulumi.Input[Any]] | None = None
    """Dask's own configuration for the group, over that of the cluster."""
    env: Mapping[str, pulumi.Input[str | Mapping[str, pulumi.Input[str]]]] | None = None
    """Environment variables of the group's workers, over those of the cluster."""
    preload: Sequence[pulumi.Input[str]] | None = None
    """Modules that each worker process loads when it starts (Dask's `--preload`)."""
    nanny_preload: Sequence[pulumi.Input[str]] | None = None
    """Modules that each nanny loads when it starts (Dask's `--preload-nanny`)."""
    extra_args: Sequence[pulumi.Input[str]] | None = None
    """More arguments of `dask worker`, for what no key stands for."""


@dataclass(kw_only=True)
class JupyterArgs:
    """JupyterLab, on the cluster and connected to it."""

    port: pulumi.Input[int] | None = None
    """Port of JupyterLab, which asks for its token. Default: `8888`."""
    directory: pulumi.Input[str] | None = None
    """Folder of the notebooks; it stays when the cluster is taken down. Default: `~/notebooks`."""
    memory: pulumi.Input[str | int] | None = None
    """Memory for JupyterLab and its kernels, where the service manager can limit memory.
    Default: `4 GiB`."""
    idle: pulumi.Input[str | float] | None = None
    """A kernel that has done nothing for so long is shut down; `0 s` never. Default: `0 s`."""
    certificate: pulumi.Input[str] | None = None
    """File of the certificate with which JupyterLab serves HTTPS, from the folder of the cluster
    file; one of the cluster's own authority when it is not given. Not on the platform local,
    where JupyterLab is on loopback."""
    key: pulumi.Input[str] | None = None
    """File of the certificate's private key."""


@dataclass(kw_only=True)
class ScalerArgs:
    """The service that sizes the groups which have a `scale`, by what their work asks for."""

    interval: pulumi.Input[str | float] | None = None
    """How often it looks and decides. Default: `1 s`."""
    budget: pulumi.Input[float] | None = None
    """Most that the members of all groups may cost for an hour, in the unit of
    `workers.NAME.scale.cost`; without it there is no limit."""
    port: pulumi.Input[int] | None = None
    """Port on loopback of its `/metrics`, for Prometheus, and of its `/health`. Default: `8790`."""
    dry_run: pulumi.Input[bool] | None = None
    """Whether it decides and records, and changes nothing. Default: `False`."""
    memory: pulumi.Input[str | int] | None = None
    """Memory for it, where the service manager can limit memory. Default: `1 GiB`."""


@dataclass(kw_only=True)
class SecurityArgs:
    """Who may connect to the cluster."""

    tls: bool | None = None
    """Mutual TLS with the cluster's own certificate authority. Without it anybody who reaches
    the scheduler's port runs code on the cluster. Default: `True`."""
    open_dashboard: pulumi.Input[bool] | None = None
    """Dask's dashboard without its token, also on the address of the scheduler: whoever reaches
    its port reads logs, tracebacks with their values, names of tasks and lines of source.
    Default: `False`."""


@dataclass(kw_only=True)
class ClusterArgs:
    """A standing Dask cluster, described once."""

    name: str
    """Name of the cluster, a DNS label of at most 40 letters; stands in every name that the
    platform sees."""
    environment: EnvironmentArgs | Mapping[str, Any] | None = None
    """What every service runs in."""
    scheduler: SchedulerArgs | Mapping[str, Any] | None = None
    """The scheduler."""
    workers: Mapping[str, WorkerGroupArgs | Mapping[str, Any]]
    """Worker groups by name."""
    jupyter: Literal[False] | JupyterArgs | Mapping[str, Any] | None = field(
        default_factory=JupyterArgs
    )
    """JupyterLab; `null` or `false` for none."""
    scaler: Literal[False] | ScalerArgs | Mapping[str, Any] | None = field(
        default_factory=ScalerArgs
    )
    """The service that sizes the groups which have a `scale`; `null` or `false` for none: then
    `perennial scale` alone changes their size."""
    protocol: Literal["tcp", "ucx"] | None = None
    """Protocol between Dask's processes. `ucx` is for InfiniBand and NVLink: it needs the
    package distributed-ucxx, has no TLS, and makes the scheduler and Jupyter create a CUDA
    context, unless `dask` says otherwise. Default: `tcp`."""
    security: SecurityArgs | Mapping[str, Any] | None = None
    dask: Mapping[str, pulumi.Input[Any]] | None = None
    """Dask's own configuration for every service, by dotted key or nested."""
    env: Mapping[str, pulumi.Input[str | Mapping[str, pulumi.Input[str]]]] | None = None
    """Environment variables of the scheduler, the workers and Jupyter. A value is text or
    `{file: PATH}`: the first line of a file, from the folder of the cluster file. Variables
    are no place for secrets: each process of the same user sees them."""
    umask: pulumi.Input[str] | None = None
    """What others may not do with the files that tasks and notebooks make, as three octal digits
    in quotes: "027" lets the group read them. Keys, tokens and what the services keep stay
    their user's alone. Default: `077`."""


@dataclass(kw_only=True)
class AwsNetworkArgs:
    """Where the cluster stands: in a VPC that exists, or in a small one of its own."""

    vpc: pulumi.Input[str] | None = None
    """A VPC that exists; one is made when it is not given."""
    subnets: Sequence[pulumi.Input[str]] | None = None
    """Its private subnets, of which each leads to the internet by NAT, or has the endpoints that
    the cluster needs."""
    security_groups: Sequence[pulumi.Input[str]] | None = None
    """More security groups of every service, such as one that a database lets in."""
    clients: Sequence[pulumi.Input[str]] | None = None
    """Networks and security groups that may reach the scheduler and JupyterLab from elsewhere;
    none when it is not given, and then `perennial connect --port-forward` leads there."""
    cidr: str | None = None
    """Addresses of a VPC that is made. Default: `10.86.0.0/16`."""
    zones: Sequence[str] | None = None
    """Availability zones of a VPC that is made, by their letters: one private subnet in each."""
    nat: Literal["none", "single", "per_zone"] | None = None
    """How its private subnets lead to the internet: by one NAT gateway for all, by one in each
    zone, or not at all. `perennial plan` says what each costs. Default: `single`."""
    endpoints: bool | None = None
    """Whether AWS's own services are reached by endpoints in a VPC that is made; without NAT
    they must be. S3 always has its own, which costs nothing. Default: `False`."""
    domain: pulumi.Input[str] | None = None
    """Private domain in which the scheduler has its name; `<cluster>.perennial` when it is not
    given."""


@dataclass(kw_only=True)
class AwsLogsArgs:
    """Logs in CloudWatch."""

    retention: (
        pulumi.Input[
            Literal[
                1,
                3,
                5,
                7,
                14,
                30,
                60,
                90,
                120,
                150,
                180,
                365,
                400,
                545,
                731,
                1096,
                1827,
                2192,
                2557,
                2922,
                3288,
                3653,
            ]
        ]
        | None
    ) = None
    """Days for which logs are kept. Default: `30`."""
    keep: bool | None = None
    """Whether the logs stay when the cluster is taken down. Default: `False`."""


@dataclass(kw_only=True)
class AwsAlarmsArgs:
    """Alarms: no scheduler, no workers, a drain that is overdue, a certificate that ends."""

    topic: pulumi.Input[str]
    """Topic of SNS that is told."""


@dataclass(kw_only=True)
class AwsNotebooksArgs:
    """A file system of EFS for notebooks."""

    file_system: pulumi.Input[str] | None = None
    """One that exists, with a mount target in each subnet; one is made when it is not given."""
    access_point: pulumi.Input[str] | None = None
    """Access point of it; its root folder when it is not given."""
