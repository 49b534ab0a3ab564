"""Check a cluster on Kubernetes for problems: its pods, objects, rights, versions, certificates."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from perennial import authority
from perennial.doctor import Finding, checks, guarded
from perennial.paths import cluster_state
from perennial.platforms.kubernetes import secrets
from perennial.platforms.kubernetes.access import lacking, needed, written
from perennial.platforms.kubernetes.client import GONE, Api, ApiError, is_live, is_ready
from perennial.platforms.kubernetes.comparing import differences
from perennial.platforms.kubernetes.manifests import manifests
from perennial.platforms.kubernetes.port_forward import RIGHTS
from perennial.platforms.kubernetes.troubles import of_deployment, of_pod, restarts
from perennial.state import command

if TYPE_CHECKING:
    from perennial.spec import ClusterSpec

#: What `status`, `logs`, `open` and this need, beside `up`'s rights.
LOOKS = (*RIGHTS, ("", "pods/log", "get"), ("", "pods/exec", "get"), ("", "pods/exec", "create"))
#: Properties of one object that a line names.
FEW = 3
#: The package that these images do not need: what runs of it is mounted.
MOUNTED = "dask-perennial"


class Running(Protocol):
    """What is looked at: a cluster that runs, see `perennial.platforms.kubernetes.runtime`."""

    @property
    def spec(self) -> ClusterSpec:
        """The cluster as it was deployed."""

    @property
    def api(self) -> Api:
        """Its API server."""

    def pods(self, part: str | None) -> list[Any]:
        """List the pods of a part, or all."""

    def ready(self, part: str) -> list[Any]:
        """List the pods of a part that are ready."""

    def parts(self) -> Iterator[tuple[str, Any, list[Any]]]:
        """Yield each part, its Deployment or None, and its pods."""

    def last_words(self, pod: str, container: str, lines: int) -> str:
        """Return the last useful line of a pod's that ended."""

    def run(self, pod: str, arguments: list[str]) -> str:
        """Run Python in a pod."""


def examine(running: Running, python: str | None) -> Iterator[Finding]:
    """Run every check on a cluster of this user's."""
    spec, api = running.spec, running.api
    namespace = str(spec.options.namespace)
    yield from guarded("rights", lambda: rights(spec, api, namespace))
    yield from guarded("pods", lambda: pods(running))
    yield from guarded("objects", lambda: objects(spec, api))
    yield from guarded("versions", lambda: versions(running, python))
    if spec.security.tls:
        yield from guarded("certificates", lambda: certificates(spec, api, namespace))
        yield checks.secrets(cluster_state(spec.name).root)
    cut = not running.ready("scheduler")
    yield from guarded("client", lambda: checks.as_client(spec.name, python, cut))


def rights(spec: ClusterSpec, api: Api, namespace: str) -> Iterator[Finding]:
    """Ask which rights the caller lacks."""
    wanted = sorted({*needed(spec), *LOOKS})
    missing = list(lacking(api, namespace, wanted))
    if missing:
        text = f"you may not {written(missing)} in the namespace {namespace}"
        yield Finding("rights", "warning", f"{text}; ask for a role with these rights")
    else:
        yield Finding("rights", "ok", f"{len(wanted)} asked for, all there")


def pods(running: Running) -> Iterator[Finding]:
    """Say what each part waits for: a node, an image, a quota, or an end to its crashes."""
    good = True
    for key, deployment, members in running.parts():
        if deployment is None:
            continue  # a missing object, see `objects`
        if refused := of_deployment(deployment):
            good = False
            yield Finding("pods", "error", f"{key}: {refused.text}")
        for pod in members:
            if fault := of_pod(running, pod):
                good = False
                yield Finding("pods", "error", f"{pod.metadata.name}: {fault.text}")
        often = [_often(pod) for pod in members if restarts(pod) > 3]
        if often:
            good = False
            text = f"{key}: came back by themselves: {', '.join(often)}; see `perennial logs {key}`"
            yield Finding("pods", "warning", text)
    if good:
        every = [pod for pod in running.pods(None) if is_live(pod)]
        ready = sum(map(is_ready, every))
        whole = ready == len(every)
        yield Finding("pods", "ok" if whole else "warning", f"{ready} of {len(every)} ready")


def objects(spec: ClusterSpec, api: Api) -> Iterator[Finding]:
    """Compare each object with what is rendered."""
    remedy = f"{command('up', spec.name)} repairs it"
    good, number = True, 0
    for wanted in (each for part in manifests(spec).values() for each in part):
        number += 1
        kind, name = wanted["kind"], wanted["metadata"]["name"]
        found = api.look(wanted)
        if found is None:
            good = False
            yield Finding("objects", "error", f"{kind} {name} is missing; {remedy}")
            continue
        changed = list(differences(wanted, found))
        if changed:
            good = False
            more = f" and {len(changed) - FEW} more" if len(changed) > FEW else ""
            text = f"{kind} {name} was edited: {', '.join(changed[:FEW])}{more}; {remedy}"
            yield Finding("objects", "warning", text)
    if good:
        yield Finding("objects", "ok", f"{number} as deployed")


def versions(running: Running, python: str | None) -> Iterator[Finding]:
    """Compare the image of the scheduler with this machine."""
    ready = running.ready("scheduler")
    if not ready:
        return  # said by `pods`
    said = running.run(ready[0].metadata.name, ["-c", checks.PACKAGES])
    theirs, mine = checks.same(json.loads(said)), checks.same(checks.packages_of(python))
    for one in (mine, theirs):
        del one[MOUNTED]
    image = ready[0].spec.containers[0].image
    different = [
        f"{name} is {mine[name] or 'missing'} here and {theirs[name] or 'missing'} in {image}"
        for name in mine
        if mine[name] != theirs[name]
    ]
    if different:
        text = f"{'; '.join(different)}: install the same here, or build the image with these"
        yield Finding("versions", "warning", text)
    else:
        listed = ", ".join(f"{name} {version}" for name, version in mine.items())
        yield Finding("versions", "ok", f"{listed} in {image} and here")


def certificates(spec: ClusterSpec, api: Api, namespace: str) -> Iterator[Finding]:
    """Check how long the certificates are good: in the Secrets, and of this user's client."""
    from perennial import certificates as made

    paths, up = cluster_state(spec.name), command("up", spec.name)
    expiry = dict(authority.expiry(paths.tls)) if paths.tls.is_dir() else {}
    for name, files in secrets.contents(spec).items():
        what, read = f"read the Secret {name}", api.core.read_namespaced_secret
        try:
            data = api.call(what, read, name, namespace).data or {}
        except ApiError as error:
            if error.status != GONE:
                raise
            text = f"the Secret {name} is missing, so its pods do not start; {up} repairs it"
            yield Finding("certificates", "error", text)
            continue
        for file in _certificates(files):
            end = made.ends(base64.b64decode(data.get(file, "")))
            if end is not None:
                expiry[f"{name}'s {file}"] = end
    yield checks.certificates(expiry, datetime.now(UTC), up)


def _certificates(files: Iterable[str]) -> Iterator[str]:
    yield from (file for file in files if file.endswith(".pem") and not file.endswith("-key.pem"))


def _often(pod: Any) -> str:
    return f"{pod.metadata.name} {restarts(pod)} times"
