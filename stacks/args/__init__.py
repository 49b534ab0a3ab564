"""Typed arguments of the components; their keys are those of a cluster file.

Written by `docs/generate_pulumi.py` from the models: do not edit.
"""

from __future__ import annotations

from .common import (
    AwsAlarmsArgs,
    AwsLogsArgs,
    AwsNetworkArgs,
    AwsNotebooksArgs,
    ClusterArgs,
    EnvironmentArgs,
    JupyterArgs,
    ScaleArgs,
    ScalerArgs,
    ScheduleArgs,
    SchedulerArgs,
    SecurityArgs,
    WorkerGroupArgs,
)
from .ec2 import (
    Ec2ClusterArgs,
    Ec2OptionsArgs,
    GroupInstancesArgs,
    SchedulerInstanceArgs,
    SpotInstancesArgs,
    WarmPoolArgs,
)
from .fargate import FargateClusterArgs, FargateGroupArgs, FargateOptionsArgs, FargateTaskArgs
from .hosts import HostsClusterArgs, HostsOptionsArgs, MachineArgs
from .kubernetes import (
    GroupPodArgs,
    IngressArgs,
    JupyterPodArgs,
    KubernetesClusterArgs,
    KubernetesOptionsArgs,
    MetricsArgs,
    MonitorArgs,
    NetworkArgs,
    PodArgs,
    ResourcesArgs,
    SchedulerIngressArgs,
    SchedulerPodArgs,
    ServiceArgs,
    StorageArgs,
)
from .local import LocalClusterArgs, LocalOptionsArgs

__all__ = [
    "AwsAlarmsArgs",
    "AwsLogsArgs",
    "AwsNetworkArgs",
    "AwsNotebooksArgs",
    "ClusterArgs",
    "Ec2ClusterArgs",
    "Ec2OptionsArgs",
    "EnvironmentArgs",
    "FargateClusterArgs",
    "FargateGroupArgs",
    "FargateOptionsArgs",
    "FargateTaskArgs",
    "GroupInstancesArgs",
    "GroupPodArgs",
    "HostsClusterArgs",
    "HostsOptionsArgs",
    "IngressArgs",
    "JupyterArgs",
    "JupyterPodArgs",
    "KubernetesClusterArgs",
    "KubernetesOptionsArgs",
    "LocalClusterArgs",
    "LocalOptionsArgs",
    "MachineArgs",
    "MetricsArgs",
    "MonitorArgs",
    "NetworkArgs",
    "PodArgs",
    "ResourcesArgs",
    "ScaleArgs",
    "ScalerArgs",
    "ScheduleArgs",
    "SchedulerArgs",
    "SchedulerIngressArgs",
    "SchedulerInstanceArgs",
    "SchedulerPodArgs",
    "SecurityArgs",
    "ServiceArgs",
    "SpotInstancesArgs",
    "StorageArgs",
    "WarmPoolArgs",
    "WorkerGroupArgs",
]
