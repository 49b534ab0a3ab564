"""Names and tags of a cluster's resources: within each API's limits, and nobody else's. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

#: Prefix of every name and tag that is ours.
OURS = "perennial"
#: Tags of everything: the cluster, which part of it, and the group of a worker.
CLUSTER = f"{OURS}:cluster"
PART = f"{OURS}:part"
GROUP = f"{OURS}:group"

#: Letters that a name of a kind may have.
ROLE = 64
LOAD_BALANCER = 32
USUAL = 128


def name_of(cluster: str, part: str, longest: int = USUAL) -> str:
    """Name a resource of a part of a cluster, so that no other pair gives the same name.

    Both may have dashes: without the digest, the group ``x`` of ``lab-gpu`` and the group ``gpu-x``
    of ``lab`` would share a name. The digest begins with a digit, as no part without a dash does.
    """
    plain = f"{OURS}-{cluster}-{part}"
    if "-" not in part and len(plain) <= longest:
        return plain
    digest = hashlib.sha256(f"{cluster}/{part}".encode()).hexdigest()[:7]
    short = plain[: longest - len(digest) - 2].rstrip("-")
    return f"{short}-0{digest}"


def role_name(cluster: str, region: str, part: str) -> str:
    """Name a role of IAM, whose names hold in all regions of an account."""
    return name_of(cluster, f"{part}-{region}", ROLE)


def secret_name(cluster: str, role: str) -> str:
    """Name the secret that one role reads."""
    return f"{OURS}/{cluster}/{role}"


def log_group(cluster: str) -> str:
    """Name the log group of a cluster."""
    return f"/{OURS}/{cluster}"


def domain(cluster: str) -> str:
    """Return the private domain in which the scheduler has its name."""
    return f"{cluster}.{OURS}"


def tags(
    cluster: str, part: str, own: Mapping[str, str] | None = None, group: str | None = None
) -> dict[str, str]:
    """Return the tags of a resource: the user's own, and ours over them."""
    mine = {CLUSTER: cluster, PART: part} | ({GROUP: group} if group else {})
    return {"Name": f"{cluster}-{part}", **(own or {}), **mine}
