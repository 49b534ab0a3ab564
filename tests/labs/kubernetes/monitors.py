"""The kind of object by which the operator of Prometheus is told what to ask."""

from __future__ import annotations

import yaml

from tests.labs.kubernetes.lab import Lab

NAME = "podmonitors.monitoring.coreos.com"
#: The operator's own says more of what may stand in it; the API server takes ours by either.
DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": NAME},
    "spec": {
        "group": "monitoring.coreos.com",
        "names": {"kind": "PodMonitor", "plural": "podmonitors", "singular": "podmonitor"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "x-kubernetes-preserve-unknown-fields": True,
                    }
                },
            }
        ],
    },
}


def define(lab: Lab) -> None:
    """Let the API server know of it."""
    lab.kubectl("apply", "-f", "-", text=yaml.safe_dump(DEFINITION))
    lab.kubectl("wait", "--for=condition=Established", f"crd/{NAME}")
