"""A namespace and a standing Dask cluster in it, by your kubeconfig.

    pulumi config set image registry.example.org/dask:2026.8.0

The image has Dask and `dask-perennial[kubernetes]`. Image, namespace and provider may as well come
from other resources of the program, such as a registry and a managed cluster.
"""

import pulumi
import pulumi_kubernetes as k8s

from perennial.stacks.kubernetes import (
    KubernetesCluster,
    KubernetesClusterArgs,
    KubernetesOptionsArgs,
    ScaleArgs,
    WorkerGroupArgs,
)

config = pulumi.Config()
provider = k8s.Provider(
    "kubernetes",
    kubeconfig=config.get("kubeconfig"),
    # Pods take a changed file into use by themselves: the object is not made anew for it.
    enable_config_map_mutable=True,
    enable_secret_mutable=True,
)
namespace = k8s.core.v1.Namespace(
    "dask",
    metadata={"labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    opts=pulumi.ResourceOptions(provider=provider),
)

cluster = KubernetesCluster(
    "dask",
    KubernetesClusterArgs(
        name="lab",
        workers={"cpu": WorkerGroupArgs(memory="4 GiB", scale=ScaleArgs(min=1, max=4))},
        jupyter=None,
        kubernetes=KubernetesOptionsArgs(
            image=config.require("image"), namespace=namespace.metadata.name
        ),
    ),
    pulumi.ResourceOptions(provider=provider),
)

pulumi.export("scheduler_address", cluster.scheduler_address)
pulumi.export("connection", cluster.connection)
