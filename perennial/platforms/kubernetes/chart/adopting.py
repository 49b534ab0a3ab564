"""Adopts a release of the chart, and lets it go: what is made, changed and removed."""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from time import monotonic, sleep
from typing import Any

from perennial.errors import PerennialError
from perennial.plan import Plan, Step
from perennial.platforms.kubernetes.access import lacking
from perennial.platforms.kubernetes.chart.release import MAIN, NoReleaseError, Release, groups_of
from perennial.platforms.kubernetes.chart.scaler_objects import (
    ADOPTS,
    BEFORE,
    KINDS,
    Wanted,
    name_of,
    objects_of,
)
from perennial.platforms.kubernetes.client import GONE, Api, ApiError, labelled
from perennial.platforms.kubernetes.fleet import COST, LEAVING
from perennial.platforms.kubernetes.merging import Manifest
from perennial.platforms.kubernetes.runtime import resize

Say = Callable[[str], None]

#: Seconds in which a scaler brings back whom it drains, and stops.
STOPPING = 60.0
_FORBIDDEN = 403


def planned(api: Api, release: Release, wanted: Wanted) -> Plan:
    """Say what adopting would do, to someone who may do it."""
    _require(api, release.namespace, _needed(wanted))
    steps = [
        Step(
            "update" if api.look(each) is not None else "create",
            "",
            f"{each['kind']} {each['metadata']['name']}",
        )
        for each in objects_of(release, wanted, {})
    ]
    for name, (least, most) in wanted.bounds.items():
        group = release.group(name)
        now = f"{group.replicas} now, from then on {least} to {most} by demand"
        steps.append(Step("update", "", f"replicas of {group.deployment}", now))
    return Plan(steps)


def adopt(api: Api, release: Release, wanted: Wanted, say: Say) -> None:
    """Put a scaler beside a release."""
    before = recorded(api, release) or {each.name: each.replicas for each in release.groups}
    made = list(objects_of(release, wanted, before))
    for each in made:
        say(f"applying {each['kind']} {each['metadata']['name']}")
        api.apply(each)
    keep = {(each["kind"], each["metadata"]["name"]) for each in made}
    for each in _ours(api, release, ("PodDisruptionBudget", "NetworkPolicy")):
        if (each["kind"], each["metadata"]["name"]) not in keep:
            api.remove(each)  # asked for before, and not any more


def adopted(api: Api, name: str, namespace: str) -> Release:
    """Find a release that was adopted, also where Helm has removed it since."""
    try:
        return groups_of(api, name, namespace)
    except NoReleaseError:
        gone = Release(name, namespace, scheduler="", http="", labels={"release": name}, groups=())
        if not _ours(api, gone, ("ConfigMap",)):
            raise
        return gone


def planned_undo(api: Api, release: Release, keep_sizes: bool = False) -> Plan:
    """Say what undoing would do."""
    steps = [
        Step("delete", "", f"{each['kind']} {each['metadata']['name']}")
        for each in _ours(api, release, KINDS[::-1])
    ]
    if not steps:
        raise PerennialError(
            f"{release.name}: nothing is beside this release in {release.namespace}; it was not"
            " adopted"
        )
    before = {} if keep_sizes else recorded(api, release) or {}
    for name, size in before.items():
        for group in (each for each in release.groups if each.name == name):
            if group.replicas != size:
                lost = "; pods go as Kubernetes picks them" if size < group.replicas else ""
                reason = f"{group.replicas} → {size}, as before it was adopted{lost}"
                steps.append(Step("update", "", f"replicas of {group.deployment}", reason))
    return Plan(steps)


def undo(api: Api, release: Release, say: Say, keep_sizes: bool = False) -> None:
    """Remove the scaler, and leave the release as it was."""
    before = {} if keep_sizes else recorded(api, release) or {}
    ours = _ours(api, release, KINDS[::-1])
    for each in (each for each in ours if each["kind"] == "Deployment"):
        say(f"stopping {each['metadata']['name']}; it ends its drains")
        api.remove(each)
        _wait_for_end(api, release)
    _unmark(api, release)
    for group in release.groups:
        size = before.get(group.name, group.replicas)
        if size != group.replicas:
            say(f"setting {group.deployment} to {size}")
            resize(api, group.deployment, release.namespace, size)
    # Last, so that a second call finds what the sizes were.
    for each in (each for each in ours if each["kind"] != "Deployment"):
        say(f"deleting {each['kind']} {each['metadata']['name']}")
        api.remove(each)


def recorded(api: Api, release: Release) -> dict[str, int] | None:
    """Return the sizes that groups had when the release was adopted."""
    place = {"name": name_of(release.name), "namespace": release.namespace}
    found = api.look({"apiVersion": "v1", "kind": "ConfigMap", "metadata": place})
    text = ((found or {}).get("metadata", {}).get("annotations") or {}).get(BEFORE)
    try:
        sizes = json.loads(text) if text else None
    except ValueError:
        return None
    return {str(k): int(v) for k, v in sizes.items()} if isinstance(sizes, Mapping) else None


def size_options(api: Api, release: Release) -> tuple[str, list[str]]:
    """Write the options by which `helm upgrade` keeps the sizes, and what none can say."""
    places = _places(api, release)
    words, notes = [], []
    for group in release.groups:
        if group.name == MAIN:
            words.append(f"worker.replicas={group.replicas}")
        elif group.name not in places:
            notes.append(
                f"{group.name}: {group.replicas} replicas; its place in additional_worker_groups"
                " is not known, because the release's Secret cannot be read"
            )
        elif group.replicas == 0:
            notes.append(
                f"{group.name}: 0 replicas; no value of the chart says that of a further group, so"
                " an upgrade starts as many as worker.replicas says"
            )
        else:
            index = places[group.name]
            words.append(f"additional_worker_groups[{index}].replicas={group.replicas}")
    if any("[" in word for word in words):
        notes.append(
            "pass the release's own values to `helm upgrade` as a file, -f, beside these options:"
            " with --reuse-values Helm drops all else in additional_worker_groups"
        )
    # Without quotes: a shell does not read them in what a command puts into its line.
    return " ".join(f"--set {word}" for word in words), notes


def _require(api: Api, namespace: str, needed: Mapping[tuple[str, str], tuple[str, ...]]) -> None:
    """Refuse to begin without a right that is needed, before anything is made."""
    for (group, resource), verbs in needed.items():
        for _, what, verb in lacking(api, namespace, [(group, resource, verb) for verb in verbs]):
            raise PerennialError(
                f"{namespace}: you may not {verb} {what} there; ask for a role with that"
                " right, or choose another context"
            )


def _needed(wanted: Wanted) -> dict[tuple[str, str], tuple[str, ...]]:
    make = ("get", "create", "patch")
    needed = {
        ("", "serviceaccounts"): make,
        ("rbac.authorization.k8s.io", "roles"): make,
        ("rbac.authorization.k8s.io", "rolebindings"): make,
        ("", "configmaps"): make,
        ("apps", "deployments"): (*make, "list", "watch"),
        # Nobody may give away a right that they do not have.
        ("apps", "deployments/scale"): ("get", "patch"),
        ("apps", "replicasets"): ("list",),
        ("", "pods"): ("list", "watch", "patch", "delete"),
        ("", "resourcequotas"): ("list",),
    }
    if wanted.budgets:
        needed["policy", "poddisruptionbudgets"] = make
    if wanted.policies:
        needed["networking.k8s.io", "networkpolicies"] = make
    return needed


def _ours(api: Api, release: Release, kinds: tuple[str, ...]) -> list[Manifest]:
    """List what is beside a release; kinds that nobody may list are left out."""
    found: list[Manifest] = []
    for kind in kinds:
        try:
            found += api.labelled_objects(kind, release.namespace, {ADOPTS: release.name})
        except ApiError as error:
            if error.status not in (_FORBIDDEN, GONE):
                raise
    return found


def _pods(api: Api, release: Release, labels: Mapping[str, str]) -> Any:
    return api.call(
        f"list the pods of {release.name}",
        api.core.list_namespaced_pod,
        release.namespace,
        label_selector=labelled(dict(labels)),
    ).items


def _wait_for_end(api: Api, release: Release) -> None:
    """Wait for the scaler to end: it brings back whom it has parked."""
    end = monotonic() + STOPPING
    while _pods(api, release, {ADOPTS: release.name}):
        if monotonic() > end:
            raise PerennialError(
                f"{release.name}: the scaler's pod still stops after {STOPPING:.0f} s; see `kubectl"
                f" -n {release.namespace} describe pod -l {ADOPTS}={release.name}` and run the"
                " command again"
            )
        sleep(0.5)


def _unmark(api: Api, release: Release) -> None:
    """Take our marks off pods that stay."""
    clean = {"metadata": {"annotations": {COST: None, LEAVING: None}}}
    for pod in _pods(api, release, {**release.labels, "component": "worker"}):
        marked = {COST, LEAVING} & set(pod.metadata.annotations or ())
        if marked and pod.metadata.deletion_timestamp is None:
            name = pod.metadata.name
            patch = api.core.patch_namespaced_pod
            api.call(f"unmark {name}", patch, name, release.namespace, clean)


def _places(api: Api, release: Release) -> dict[str, int]:
    """Find the places of further groups in the values, as Helm's own Secret has them."""
    try:
        listed = api.call(
            "read the release's Secret",
            api.core.list_namespaced_secret,
            release.namespace,
            label_selector=f"owner=helm,name={release.name},status=deployed",
        )
    except ApiError:
        return {}
    for secret in sorted(listed.items, key=_version, reverse=True):
        return dict(_named(unpacked((secret.data or {}).get("release", ""))))
    return {}


def _version(secret: Any) -> int:
    word = (secret.metadata.labels or {}).get("version", "")
    return int(word) if word.isdecimal() else 0


def unpacked(text: str) -> Any:
    """Read what Helm keeps of a release; None where it is not that."""
    try:
        packed = base64.b64decode(base64.b64decode(text))
        # Not more than a release can be: what is packed could be anything.
        return json.loads(zlib.decompressobj(wbits=31).decompress(packed, 2**24))
    except (ValueError, RecursionError, binascii.Error, zlib.error):
        return None


def _named(value: Any) -> Iterator[tuple[str, int]]:
    values = value.get("config") if isinstance(value, Mapping) else None
    groups = values.get("additional_worker_groups") if isinstance(values, Mapping) else None
    for index, each in enumerate(groups if isinstance(groups, list) else ()):
        if isinstance(each, Mapping) and isinstance(each.get("name"), str):
            yield each["name"], index
