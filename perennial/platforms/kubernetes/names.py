"""Names of a cluster's objects: valid, and those of no other cluster in the namespace. Pure."""

from __future__ import annotations

import hashlib
import re

#: A pod's name is its host name, of 63 letters, and ends in two words of its ReplicaSet's.
LONGEST = 63 - len("-1234567890-12345")
#: Prefix of the labels and annotations that are ours.
OURS = "dask-perennial"
#: What a pod outside the cluster must be labelled with to reach its scheduler.
CLIENT = "{cluster}." + OURS + "/client"
#: What a Deployment's pods run; changes when they must be replaced.
FINGERPRINT = f"{OURS}/fingerprint"
#: Which part of a cluster an object belongs to.
PART = f"{OURS}/part"


def name_of(cluster: str, part: str) -> str:
    """Name an object of a part of a cluster, so that no other pair gives the same name.

    Both may have dashes: without the digest, the group ``x`` of ``lab-gpu`` and the group ``gpu-x``
    of ``lab`` would share a name. The digest begins with a digit, as no part without a dash does.
    """
    plain = f"{cluster}-{part}"
    if "-" not in part and len(plain) <= LONGEST:
        return plain
    digest = hashlib.sha256(f"{cluster}/{part}".encode()).hexdigest()[:7]
    short = plain[: LONGEST - len(digest) - 2].rstrip("-")
    return f"{short}-0{digest}"


def labels(cluster: str, role: str, part: str) -> dict[str, str]:
    """Return the labels of every object of a part."""
    return {
        "app.kubernetes.io/name": "dask",
        "app.kubernetes.io/instance": cluster,
        "app.kubernetes.io/component": role,
        "app.kubernetes.io/managed-by": OURS,
        PART: part,
    }


def selector(cluster: str, part: str) -> dict[str, str]:
    """Return the labels that the pods of a part are selected by."""
    return {"app.kubernetes.io/instance": cluster, PART: part}


def container_of(role: str) -> str:
    """Name the container of a role; a pod may have others, that somebody injects."""
    return "dask" if role in ("scheduler", "worker") else role


def client_label(cluster: str) -> str:
    """Label of pods that may reach a cluster's scheduler; one for each cluster they use."""
    return CLIENT.format(cluster=cluster)


def secret_names(cluster: str) -> dict[str, str]:
    """Name the Secrets of a cluster, by what they hold."""
    return {role: f"{name_of(cluster, role)}-tls" for role in ("scheduler", "worker", "client")} | {
        role: f"{name_of(cluster, role)}-secret" for role in ("jupyter", "metrics")
    }


def metrics_ports(processes: int) -> list[str]:
    """Name the ports of a pod's metrics, one for each process of Dask's."""
    return ["metrics", *(f"metrics-{number}" for number in range(1, processes))]


def volume_name(path: str) -> str:
    """Name a volume after the folder where it stands."""
    return re.sub(r"[^a-z0-9]+", "-", path.lower()).strip("-")
