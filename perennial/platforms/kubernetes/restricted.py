"""What the Pod Security level Restricted would refuse of a pod. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

#: Sources of volumes that Restricted takes.
VOLUMES = frozenset(
    {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
)
_PROFILES = ("RuntimeDefault", "Localhost")
_HOST = ("hostNetwork", "hostPID", "hostIPC")
_SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_syncookies",
    }
)


def violations(pod: Mapping[str, Any]) -> list[str]:
    """List what Restricted refuses in a pod's specification; empty for a pod that it takes."""
    found = [f"{key}: true" for key in _HOST if pod.get(key)]
    for volume in pod.get("volumes", ()):
        found += [f"volume of the kind {kind}" for kind in volume.keys() - VOLUMES - {"name"}]
    whole = pod.get("securityContext", {})
    for sysctl in whole.get("sysctls", ()):
        if sysctl.get("name") not in _SYSCTLS:
            found.append(f"sysctl {sysctl.get('name')}")
    containers = [*pod.get("initContainers", ()), *pod["containers"]]
    for container in containers:
        name = container["name"]
        found += [f"container {name}: {why}" for why in _of_container(container, whole)]
    return list(dict.fromkeys(found))


def _of_container(container: Mapping[str, Any], whole: Mapping[str, Any]) -> Iterator[str]:
    own = container.get("securityContext", {})
    both = {**whole, **own}
    if own.get("privileged"):
        yield "privileged: true"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    capabilities = own.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", ()):
        yield "capabilities.drop is not [ALL]"
    if set(capabilities.get("add", ())) - {"NET_BIND_SERVICE"}:
        yield "capabilities.add"
    if both.get("runAsNonRoot") is not True:
        yield "runAsNonRoot is not true"
    if both.get("runAsUser") == 0:
        yield "runAsUser: 0"
    if both.get("seccompProfile", {}).get("type") not in _PROFILES:
        yield "seccompProfile is not RuntimeDefault"
    if own.get("procMount", "Default") != "Default":
        yield "procMount"
    if any(port.get("hostPort") for port in container.get("ports", ())):
        yield "hostPort"
