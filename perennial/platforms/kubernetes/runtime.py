"""A cluster on Kubernetes that runs, as the command line asks it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from perennial import connect, contracts, paths, tunnel
from perennial.contracts import (
    LogLine,
    Lost,
    Overview,
    Resized,
    Say,
    ServiceStatus,
    Status,
    WebPage,
)
from perennial.errors import PerennialError
from perennial.files import write_atomic
from perennial.pages import ROSTER, TOKEN, counts_of, socket_of
from perennial.paths import cluster_state
from perennial.platforms.kubernetes import code, names, troubles
from perennial.platforms.kubernetes.client import (
    GONE,
    Api,
    ApiError,
    is_live,
    is_ready,
    labelled,
    own_container,
)
from perennial.platforms.kubernetes.parts import (
    RUN,
    Part,
    client_address,
    parts,
    scheduler_host,
    site,
)
from perennial.services import scheduler_address
from perennial.stacked import deployed, token_file

if TYPE_CHECKING:
    from perennial.connect import Connection
    from perennial.doctor import Finding
    from perennial.pages import Counts
    from perennial.spec import ClusterSpec

_RENEWED = (
    "{name}: {up} renews what ends within 30 days, and so does, where kubectl has made"
    " the cluster, `python -m perennial.platforms.kubernetes.secrets`"
)

#: What kubectl itself sets, so that a Deployment replaces its pods one after another.
RESTARTED = f"{names.OURS}/restarted-at"


class KubernetesRuntime(contracts.Runtime):
    """Pods of a cluster, as the API server sees them."""

    cannot: ClassVar = {
        "rotate": _RENEWED,
        "rotate_authority": "{name}: no new authority for a cluster that stands on kubernetes yet",
        "issue": "{name}: no certificates for single people on kubernetes yet",
        "revoke": "{name}: no certificates for single people on kubernetes yet",
        "enable": "{name}: Kubernetes starts its pods by itself",
        "disable": "{name}: Kubernetes keeps its pods running until {down}",
        "supervisor": "{name}: --wait is for the platform local, found kubernetes",
    }

    @cached_property
    def spec(self) -> ClusterSpec:
        """The cluster as it was deployed."""
        return deployed(cluster_state(self.name))

    @cached_property
    def api(self) -> Api:
        """The API server of the current context, which must be the cluster's own."""
        from perennial.platforms.kubernetes.identity import own_server

        return own_server(self.name, self._namespace)

    def overview(self) -> Overview:
        """Ask whether the scheduler's pod is ready."""
        return Overview(bool(self.ready("scheduler")), client_address(self.spec))

    def status(self) -> Status:
        """Look at every pod, and ask the scheduler for its numbers."""
        pods = self.pods(None)
        rows = [_row(pod) for pod in pods]
        sizes = dict.fromkeys(self.spec.workers, 0)
        for pod in filter(is_live, pods):
            part = pod.metadata.labels[names.PART]
            if part in sizes and pod.metadata.deletion_timestamp is None:
                sizes[part] += 1
        return Status(None, sizes, rows, self.counts())

    def counts(self) -> Counts | None:
        """Ask in the scheduler's pod: nobody else reaches its pages."""
        ready = self.ready("scheduler")
        if not ready:
            return None
        asked = (socket_of(f"{RUN}/pages"), "/json/counts.json", ROSTER)
        command = [code.START, "perennial.platforms.kubernetes.page", *asked]
        try:
            pages = json.loads(self.run(ready[0].metadata.name, command))
            return counts_of(*pages)
        except (ApiError, ValueError, TypeError):
            return None

    def logs(self, service: str | None, lines: int, follow: bool) -> Iterator[LogLine]:
        """Read the logs of pods; one alone can be followed."""
        pods = self._named(service)
        if follow and len(pods) > 1:
            raise PerennialError(
                f"{self.name}: found {len(pods)} pods to follow; name one of"
                f" {', '.join(pod.metadata.name for pod in pods)}"
            )
        for pod in pods:
            name = pod.metadata.name
            try:
                for line in self._log(pod, lines, follow):
                    yield LogLine(name, line)
            except ApiError as error:  # such as of one that has not started
                if len(pods) == 1:
                    raise
                yield LogLine(name, f"({error})")

    def _log(self, pod: Any, lines: int, follow: bool) -> Iterator[str]:
        """Read the log of a pod's own container."""
        from kubernetes import watch

        what, read = f"read the log of {pod.metadata.name}", self.api.core.read_namespaced_pod_log
        where = (pod.metadata.name, self._namespace)
        asked = {"container": own_container(pod), "tail_lines": lines}
        if follow:
            with self.api.reported(what):
                yield from map(str, watch.Watch().stream(read, *where, **asked))
        else:
            yield from str(self.api.call(what, read, *where, **asked)).splitlines()

    def restart(self, service: str, say: Say, _lost: Lost) -> int:
        """Have a Deployment replace its pods, one after another and drained; does not wait."""
        part = self._part(service)
        stamp = {RESTARTED: datetime.now(UTC).isoformat(timespec="seconds")}
        body = {"spec": {"template": {"metadata": {"annotations": stamp}}}}
        say(f"restarting the Deployment {part.name}")
        patch = self.api.apps.patch_namespaced_deployment
        self.api.call(f"restart {part.name}", patch, part.name, self._namespace, body)
        return sum(map(is_live, self.pods(part.key)))

    def scale(
        self, wanted: Mapping[str, int], _force: bool, say: Say, _lost: Lost
    ) -> Mapping[str, Resized]:
        """Size Deployments; each pod that goes drains, and nobody waits for it."""
        sized = {}
        for group, size in wanted.items():
            part = self._part(group)
            say(f"sizing the Deployment {part.name}")
            sized[group] = Resized(resize(self.api, part.name, self._namespace, size), size)
        return sized

    def checks(self, python: str | None) -> Iterator[Finding]:
        """Run the checks of `doctor`."""
        from perennial.platforms.kubernetes.doctor import examine

        return examine(self, python)

    def jupyter(self) -> WebPage | None:
        """Find JupyterLab: by its Ingress, else through a forwarded port."""
        state = cluster_state(self.name)
        link = connect.load(state)
        if link.jupyter_url is None:
            return None
        if not self.ready("jupyter"):
            raise PerennialError(
                f"{self.name}: no pod of jupyter is ready; see `perennial status` and `perennial"
                " logs jupyter`"
            )
        if self.spec.options.jupyter.ingress is None:
            link = self._forwarded(link)
        return WebPage(str(link.jupyter_url), token_file(state), state.secrets)

    def dashboard(self) -> WebPage:
        """Find Dask's dashboard, and its token in the scheduler's pod."""
        state = cluster_state(self.name)
        self._forwarded(connect.load(state))
        host = scheduler_host(self.name, self._namespace)
        port = tunnel.local(self.name, host, self.spec.scheduler.dashboard_port)
        ready = self.ready("scheduler")
        if port is None or not ready:
            raise PerennialError(
                f"{self.name}: the dashboard's port is not forwarded; `perennial connect"
                f" {self.name} --port-forward` does, once the scheduler is ready"
            )
        command = ["cat", f"{RUN}/pages/{TOKEN}"]
        pod, container = ready[0].metadata.name, names.container_of("scheduler")
        token = self.api.run(pod, self._namespace, container, command).strip()
        file = state.secrets / "dashboard-token"
        write_atomic(file, token)
        return WebPage(f"http://{tunnel.LOOPBACK}:{port}/status", file, state.secrets)

    def balancer(self) -> str:
        """Return the address of the scheduler at its load balancer; empty for none yet."""
        name = names.name_of(self.name, "scheduler")
        read = self.api.core.read_namespaced_service
        found = self.api.call(f"read the Service {name}", read, name, self._namespace)
        inside = scheduler_address(self.spec, site(self.spec))
        for each in found.status.load_balancer.ingress or ():
            host = str(each.ip or each.hostname)
            around = f"[{host}]" if ":" in host else host
            return f"{urlsplit(inside).scheme}://{around}:{self.spec.scheduler.port}"
        return ""

    def waits(self) -> Iterator[str]:
        """Say what keeps each part from being ready, one line each."""
        for key, found, pods in self.parts():
            refused = troubles.of_deployment(found) if found else None
            waiting = (troubles.of_pod(self, pod) for pod in pods if not is_ready(pod))
            why = refused or next(filter(None, waiting), None)
            if why is not None:
                yield f"{self.name}: {key} waits: {why.text}"

    def parts(self) -> Iterator[tuple[str, Any, list[Any]]]:
        """Yield each part, its Deployment or None, and its pods."""
        read = self.api.apps.read_namespaced_deployment
        for part in parts(self.spec):
            what, found = f"read the Deployment {part.name}", None
            try:
                found = self.api.call(what, read, part.name, self._namespace)
            except ApiError as error:
                if error.status != GONE:
                    raise
            yield part.key, found, self.pods(part.key)

    def run(self, pod: str, arguments: list[str]) -> str:
        """Run Python in a pod of the scheduler; return what it prints."""
        python, container = (
            self.spec.environment.python or "python",
            names.container_of("scheduler"),
        )
        return self.api.run(pod, self._namespace, container, [python, "-P", *arguments])

    def last_words(self, pod: str, container: str, lines: int) -> str:
        """Return the last line of a container that ended; that of an error if there is one."""
        read, where = self.api.core.read_namespaced_pod_log, (pod, self._namespace)
        asked = {"container": container, "previous": True, "tail_lines": lines}
        try:
            text = self.api.call("read its log", read, *where, **asked)
        except ApiError:
            return ""
        said = [line.strip() for line in str(text).splitlines() if line.strip()]
        errors = [line for line in said if "Error" in line and not line.startswith("File ")]
        return (errors or said or [""])[-1]

    # Inside

    def _forwarded(self, link: Connection) -> Connection:
        """Keep a tunnel to the cluster; a bastion's that is there is one as well.

        The scheduler of one with a public address is reached without.
        """
        has_tunnel = paths.tunnel(self.name).is_file()
        inside = replace(link, scheduler_address=scheduler_address(self.spec, site(self.spec)))
        return tunnel.open_tunnel(link, None if has_tunnel else tunnel.by_platform(inside))

    @property
    def _namespace(self) -> str:
        return str(self.spec.options.namespace)

    def _part(self, key: str) -> Part:
        every = {part.key: part for part in parts(self.spec)}
        if key not in every:
            raise PerennialError(
                f"{self.name} has no service or group {key!r}; it has {', '.join(every)}"
            )
        return every[key]

    def _named(self, word: str | None) -> list[Any]:
        pods = self.pods(None)
        if word is None:
            return pods
        chosen = [
            pod for pod in pods if word in (pod.metadata.name, pod.metadata.labels.get(names.PART))
        ]
        if not chosen:
            self._part(word)
        return chosen

    def pods(self, part: str | None) -> list[Any]:
        """List the pods of a part, or all."""
        wanted: Mapping[str, str] = {"app.kubernetes.io/instance": self.name}
        chosen = wanted if part is None else names.selector(self.name, part)
        listed = self.api.call(
            f"list the pods of {self.name}",
            self.api.core.list_namespaced_pod,
            self._namespace,
            label_selector=labelled({**chosen, "app.kubernetes.io/managed-by": names.OURS}),
        )
        return list(listed.items)

    def ready(self, part: str) -> list[Any]:
        """List the pods of a part that are ready."""
        return [pod for pod in self.pods(part) if is_ready(pod)]


def stop(spec: ClusterSpec, key: str) -> None:
    """Stop the pods of a part; its Deployment stays."""
    part = next(part for part in parts(spec) if part.key == key)
    resize(Api(), part.name, spec.options.namespace, 0)


def resize(api: Api, deployment: str, namespace: str, size: int) -> int:
    """Give a Deployment a size; return the one before."""
    what, where = f"scale {deployment}", (deployment, namespace)
    before = api.call(what, api.apps.read_namespaced_deployment_scale, *where)
    patch = api.apps.patch_namespaced_deployment_scale
    api.call(what, patch, *where, {"spec": {"replicas": size}})
    return int(before.spec.replicas or 0)


def _row(pod: Any) -> ServiceStatus:
    """Describe a pod; what it waits for stands in its containers or its conditions."""
    started = pod.status.start_time
    state = "STOPPING" if pod.metadata.deletion_timestamp else str(pod.status.phase).upper()
    if state == "RUNNING" and not is_ready(pod):
        state = "STARTING"
    keeps = troubles.obstacle(pod)
    return ServiceStatus(
        pod.metadata.name,
        pod.spec.node_name,
        state,
        uptime=(datetime.now(UTC) - started).total_seconds() if started else 0.0,
        restarts=troubles.restarts(pod),
        note=keeps.note if keeps else None,
    )
