"""Typed arguments of ec2; their keys are those of a cluster file.

Written by `docs/generate_pulumi.py` from the models: do not edit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi

from .common import AwsAlarmsArgs, AwsLogsArgs, AwsNetworkArgs, AwsNotebooksArgs, ClusterArgs


@dataclass(kw_only=True)
class SchedulerInstanceArgs:
    """The instance of the scheduler, JupyterLab and the scaler."""

    image: pulumi.Input[str] | None = None
    """Machine image with systemd and Python 3.11 or newer; Ubuntu 24.04, the newest of the day
    on which an instance starts, when it is not given. `perennial connect --port-forward`
    needs the agent of Systems Manager in it, which Ubuntu's and Amazon's own have."""
    disk: pulumi.Input[str | int] | None = None
    """Size of the root disk; 30 GiB when it is not given."""
    root_device: pulumi.Input[str] | None = None
    """Device of the image's root disk: `/dev/xvda` of Amazon Linux; `/dev/sda1`, which is
    Ubuntu's, when it is not given."""
    key_pair: pulumi.Input[str] | None = None
    """Key pair for SSH, for those who can reach the instance; none when it is not given."""
    instance_type: pulumi.Input[str] | None = None
    """Its type. Default: `m7i.large`."""
    volume: pulumi.Input[str | int] | None = None
    """Size of the volume that outlives the instance: notebooks, and what the scaler remembers.
    Default: `20 GiB`."""
    volume_id: pulumi.Input[str] | None = None
    """A volume that exists, in the zone of the first subnet, such as one that `perennial down`
    has left; it always stays. One is made when it is not given."""
    keep_volume: bool | None = None
    """Whether a volume that was made stays when the cluster is taken down. Default: `True`."""


@dataclass(kw_only=True)
class SpotInstancesArgs:
    """How much of a group is spot; the rest is on demand."""

    base: int | None = None
    """Members that are on demand in any case: the first ones. Default: `0`."""
    share: int | None = None
    """Percentage of the other members that is spot. Default: `100`."""


@dataclass(kw_only=True)
class WarmPoolArgs:
    """Stopped instances that have booted and installed everything."""

    min: int | None = None
    """Smallest number of stopped instances, whatever the number of members. Default: `1`."""
    max_prepared: int | None = None
    """How many instances are prepared in all: the pool has what the members leave of this
    number, and `min` at least. It always has `min` when it is not given."""


@dataclass(kw_only=True)
class GroupInstancesArgs:
    """The instances of a worker group."""

    image: pulumi.Input[str] | None = None
    """Machine image with systemd and Python 3.11 or newer; Ubuntu 24.04, the newest of the day
    on which an instance starts, when it is not given. `perennial connect --port-forward`
    needs the agent of Systems Manager in it, which Ubuntu's and Amazon's own have."""
    disk: pulumi.Input[str | int] | None = None
    """Size of the root disk; 30 GiB when it is not given."""
    root_device: pulumi.Input[str] | None = None
    """Device of the image's root disk: `/dev/xvda` of Amazon Linux; `/dev/sda1`, which is
    Ubuntu's, when it is not given."""
    key_pair: pulumi.Input[str] | None = None
    """Key pair for SSH, for those who can reach the instance; none when it is not given."""
    instance_types: Sequence[str] | None = None
    """Types that may be started, the preferred first; several of them make a spot interruption
    less likely. One that fits threads and memory when it is not given."""
    spot: SpotInstancesArgs | Mapping[str, Any] | None = None
    """Spot instances; all members are on demand when it is not given."""
    warm: WarmPoolArgs | Mapping[str, Any] | None = None
    """A warm pool, from which members come in the time of a start; none when it is not given."""
    policies: Sequence[pulumi.Input[str]] | None = None
    """Policies of the group's role, for what its tasks read and write; they need `metadata:
    true`."""


@dataclass(kw_only=True)
class Ec2OptionsArgs:
    """Instances of EC2, in groups of Auto Scaling; what stands here holds for every instance."""

    image: pulumi.Input[str] | None = None
    """Machine image with systemd and Python 3.11 or newer; Ubuntu 24.04, the newest of the day
    on which an instance starts, when it is not given. `perennial connect --port-forward`
    needs the agent of Systems Manager in it, which Ubuntu's and Amazon's own have."""
    disk: pulumi.Input[str | int] | None = None
    """Size of the root disk; 30 GiB when it is not given."""
    root_device: pulumi.Input[str] | None = None
    """Device of the image's root disk: `/dev/xvda` of Amazon Linux; `/dev/sda1`, which is
    Ubuntu's, when it is not given."""
    key_pair: pulumi.Input[str] | None = None
    """Key pair for SSH, for those who can reach the instance; none when it is not given."""
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
    """A file system for notebooks; they stand on the scheduler's volume when it is not given."""
    tags: Mapping[str, pulumi.Input[str]] | None = None
    """Tags of everything that is made, beside those that name the cluster and the part."""
    permissions_boundary: pulumi.Input[str] | None = None
    """Permissions boundary of every role that is made."""
    python: pulumi.Input[str] | None = None
    """Python of the image, from which the environment of the requirements is made. Default:
    `/usr/bin/python3`."""
    metadata: pulumi.Input[bool] | None = None
    """Whether tasks and notebooks may reach the metadata of their instance, and with it the
    rights of its role. Default: `False`."""
    scheduler: SchedulerInstanceArgs | Mapping[str, Any] | None = None
    """What holds for the instance of the scheduler, JupyterLab and the scaler."""
    workers: Mapping[str, GroupInstancesArgs | Mapping[str, Any]] | None = None
    """What holds for the instances of one group, by its name."""


@dataclass(kw_only=True)
class Ec2ClusterArgs(ClusterArgs):
    """A standing Dask cluster, described once."""

    ec2: Ec2OptionsArgs | Mapping[str, Any]
