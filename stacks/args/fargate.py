"""Typed arguments of fargate; their keys are those of a cluster file.

Written by `docs/generate_pulumi.py` from the models: do not edit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pulumi

from .common import AwsAlarmsArgs, AwsLogsArgs, AwsNetworkArgs, AwsNotebooksArgs, ClusterArgs


@dataclass(kw_only=True)
class FargateTaskArgs:
    """What can be said of tasks: of all, of a service, or of a group."""

    image: pulumi.Input[str] | None = None
    """Container image with dask-perennial inside; JupyterLab's has JupyterLab as well.
    `perennial render` writes a recipe for one."""
    cpu: pulumi.Input[float] | None = None
    """Virtual processors; as many as there are threads when it is not given, or the next size
    that Fargate has."""
    memory: pulumi.Input[str | int] | None = None
    """Memory of a task; what its processes need when it is not given, in the next size that
    Fargate has."""
    ephemeral_storage: pulumi.Input[int] | None = None
    """GiB of disk for its image and what workers spill; 20 when it is not given."""


@dataclass(kw_only=True)
class FargateGroupArgs(FargateTaskArgs):
    """The tasks of a worker group."""

    base: int | None = None
    """Members that are never on Spot; the others are divided by the two weights. Default: `0`."""
    on_demand: int | None = None
    """Weight of members that AWS does not take back. Default: `1`."""
    spot: int | None = None
    """Weight of members on Fargate Spot, which AWS may take back with two minutes' notice.
    Default: `0`."""
    healthy: int | None = None
    """Per cent of the group that stays while a new version is rolled out. Default: `100`."""
    surge: int | None = None
    """Per cent of the group that a rolled out version may start beyond its size. Default: `100`."""


@dataclass(kw_only=True)
class FargateOptionsArgs:
    """Services of ECS on Fargate; what stands here holds for every task."""

    region: str
    """Region of everything."""
    profile: str | None = None
    """Profile of the AWS command line with which the cluster is deployed and asked here; found
    as the AWS command line does when it is not given."""
    network: AwsNetworkArgs | Mapping[str, Any] | None = None
    """Where the cluster stands, and who reaches it."""
    logs: AwsLogsArgs | Mapping[str, Any] | None = None
    alarms: AwsAlarmsArgs | Mapping[str, Any] | None = None
    """Alarms; none when it is not given."""
    notebooks: AwsNotebooksArgs | Mapping[str, Any] | None = None
    """A file system for notebooks; they are gone with their machine when it is not given."""
    tags: Mapping[str, pulumi.Input[str]] | None = None
    """Tags of everything that is made, beside those that name the cluster and the part."""
    permissions_boundary: pulumi.Input[str] | None = None
    """Permissions boundary of every role that is made."""
    image: pulumi.Input[str]
    """Container image of every service that has none of its own, with dask-perennial inside."""
    ephemeral_storage: pulumi.Input[int] | None = None
    """GiB of disk of every task that says nothing of its own."""
    architecture: pulumi.Input[Literal["x86_64", "arm64"]] | None = None
    """Architecture of the images. Default: `x86_64`."""
    platform_version: pulumi.Input[Literal["LATEST", "1.4.0"]] | None = None
    """Platform version of Fargate. Default: `LATEST`."""
    user: pulumi.Input[int] | None = None
    """Number of the user and the group that run every container. Default: `10001`."""
    exec: bool | None = None
    """Whether whoever has the right `ExecuteCommand` of ECS reaches the scheduler and JupyterLab
    by SSM, as `perennial connect --port-forward` and `perennial open` do; never the workers.
    Default: `True`."""
    load_balancer: bool | None = None
    """An internal load balancer for clients from other networks. It passes TLS through. Default:
    `False`."""
    policies: Sequence[pulumi.Input[str]] | None = None
    """Managed policies for tasks and notebooks, such as to read buckets. Without them workers
    have no rights at all."""
    scheduler: FargateTaskArgs | Mapping[str, Any] | None = None
    """What holds for the scheduler's task alone."""
    workers: Mapping[str, FargateGroupArgs | Mapping[str, Any]] | None = None
    """What holds for the tasks of one group, by its name."""
    jupyter: FargateTaskArgs | Mapping[str, Any] | None = None
    """What holds for JupyterLab's task alone."""
    scaler: FargateTaskArgs | Mapping[str, Any] | None = None
    """What holds for the scaler's task alone."""


@dataclass(kw_only=True)
class FargateClusterArgs(ClusterArgs):
    """A standing Dask cluster, described once."""

    fargate: FargateOptionsArgs | Mapping[str, Any]
