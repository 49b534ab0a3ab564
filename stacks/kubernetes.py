"""A cluster on Kubernetes as a component: not there yet."""

from __future__ import annotations

from typing import Any

import pulumi

from perennial.errors import PerennialError
from perennial.spec import ClusterSpec


class KubernetesCluster(pulumi.ComponentResource):
    """Refuses in one line, until it makes what `perennial render` writes."""

    def __init__(self, name: str, spec: ClusterSpec, **_options: Any) -> None:
        raise PerennialError(
            f"{name}: the platform {spec.platform} has no component for Pulumi yet; run"
            " `perennial render` and `kubectl apply -k` on what it writes"
        )


Cluster = KubernetesCluster
