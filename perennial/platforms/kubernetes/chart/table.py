"""Each value of the chart, and what it is in a cluster file: the one table. Pure.

It drives the conversion, and the page that shows it. `NAME` stands for a group, and `worker` for
each of them: the values of `additional_worker_groups` are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """A value of the chart."""

    key: str
    #: What may stand there, see `perennial.platforms.kubernetes.chart.kinds`.
    kind: str
    #: What the chart has when nothing is written.
    usual: Any = None
    #: Key of the cluster file; empty for none.
    ours: str = ""
    #: Why there is none, or what is different.
    why: str = ""
    #: Name of a function in `perennial.platforms.kubernetes.chart.rules`, where copying won't do.
    rule: str = ""
    #: Value without which this one means nothing.
    needs: str = ""

    @property
    def section(self) -> str:
        """The part of the chart that it is of."""
        return self.key.partition(".")[0]


#: Group that the chart's `worker` becomes: `worker` itself is a name that services have.
MAIN = "main"
#: Tag of the images in the chart's last release.
TAG = "2025.11.0"
_STOCK = "ghcr.io/dask/dask"

_NAMES = "objects are called after `name` and the group"
_TEXT = "it stands in the text alone that the chart prints"
_PROBES = "probes are the cluster's own, and none of them can end a worker that is busy"
_METRICS = "they are served by TLS to whoever sends the token in the Secret NAME-metrics-secret"
_MONITOR = "a PodMonitor of the scheduler, and one of each group"
_BESIDE = "monitors stand in the namespace of the cluster, beside the Secret that they name"
_DASHBOARD = (
    "the dashboard is on the loopback of the scheduler's pod, and behind JupyterLab's login"
)
_TOKEN = "JupyterLab asks for a token, which is made for the cluster"  # noqa: S105
_STARTED = "JupyterLab is started by dask-perennial, with its own settings"
_IMAGE = "it must have distributed 2026.6 or later in it"
_PART = (
    "the extra arguments `--nworkers`, `--nthreads`, `--memory-limit` and `--resources` are keys"
)


def _pod(key: str, ours: str) -> Iterator[Row]:
    """Rows that every part of the chart has."""
    yield Row(f"{key}.image.pullPolicy", "text", "IfNotPresent", f"{ours}.image_pull_policy")
    pull = f"{ours}.image_pull_secrets"
    yield Row(f"{key}.image.pullSecrets", "maps", None, pull, rule="pull_secrets")
    yield Row(f"{key}.tolerations", "maps", [], f"{ours}.tolerations")
    yield Row(f"{key}.affinity", "map", {}, f"{ours}.affinity")
    yield Row(f"{key}.nodeSelector", "texts by name", {}, f"{ours}.node_selector")
    context = f"{ours}.extra_pod_spec.securityContext"
    yield Row(f"{key}.securityContext", "map", {}, context, "merged over that of the cluster")
    wanted = f"{ours}.resources.requests"
    yield Row(f"{key}.resources.requests", "quantities", None, wanted, rule="requests")
    yield Row(f"{key}.livenessProbe", "map", {}, why=_PROBES)
    yield Row(f"{key}.readinessProbe", "map", {}, why=_PROBES)


def _monitor(key: str, kind: str, labels: str) -> Iterator[Row]:
    on, ours = f"{key}.metrics.enabled", "kubernetes.metrics.monitor"
    yield Row(on, "flag", False, "kubernetes.metrics", _METRICS, "metrics")
    own = f"{key}.metrics.{kind}"
    yield Row(f"{own}.enabled", "flag", False, ours, _MONITOR, "monitor", on)
    for name, form, usual, last in (
        ("namespace", "text", "", ""),
        ("namespaceSelector", "map", {}, ""),
        ("additionalLabels", "map", {}, "labels"),
        ("interval", "text", "30s", "interval"),
        ("jobLabel", "text", "", "job_label"),
        (labels, "any", [], "target_labels"),
        ("metricRelabelings", "any", [], "relabelings"),
    ):
        if last:
            yield Row(f"{own}.{name}", form, usual, f"{ours}.{last}", "", "part_of", on)
        else:
            yield Row(f"{own}.{name}", form, usual, why=_BESIDE, needs=on)


def _ingress(key: str, usual: str, ours: Mapping[str, str], why: str) -> Iterator[Row]:
    on = f"{key}.ingress.enabled"
    yield Row(on, "flag", False, ours.get("enabled", ""), why, ours.get("rule", ""))
    for name, form, default in (
        ("ingressClassName", "text", None),
        ("pathType", "text", "Prefix"),
        ("hostname", "text", usual),
        ("annotations", "texts by name", None),
        ("tls", "flag", False),
        ("secretName", "text", None),
    ):
        own = f"{key}.ingress.{name}"
        if ours and name == "pathType":
            yield Row(own, form, default, why="the path is /, as a prefix", needs=on)
        else:
            yield Row(own, form, default, ours.get(name, ""), why, "part_of", on)


def _scheduler() -> Iterator[Row]:
    ours, limits = "kubernetes.scheduler", "kubernetes.scheduler.resources.limits"
    yield Row("scheduler.name", "text", "scheduler", why=_TEXT)
    yield Row(
        "scheduler.enabled",
        "flag",
        True,
        why="a cluster has its own scheduler; workers of another one cannot be described",
    )
    yield Row("scheduler.image.repository", "text", _STOCK, "kubernetes.image", _IMAGE, "image")
    yield Row("scheduler.image.tag", "text", TAG, "kubernetes.image", rule="part_of")
    yield from _pod("scheduler", ours)
    yield Row("scheduler.replicas", "count", 1, why="two schedulers would share no work")
    yield Row("scheduler.serviceType", "text", "ClusterIP", f"{ours}.service.type")
    yield Row(
        "scheduler.loadBalancerIP",
        "text",
        why="Kubernetes has deprecated it; your cloud has an annotation for it, to be written in"
        " kubernetes.scheduler.service.annotations",
    )
    yield Row("scheduler.servicePort", "port", 8786, "scheduler.port")
    annotations = f"{ours}.service.annotations"
    yield Row("scheduler.serviceAnnotations", "texts by name", {}, annotations)
    yield Row(
        "scheduler.env",
        "maps",
        None,
        f"{ours}.extra_pod_spec",
        "`DASK_…` becomes a setting under `dask`, which holds for every service",
        "env",
    )
    yield Row(
        "scheduler.extraArgs",
        "texts",
        [],
        why="the scheduler takes no more arguments; write Dask's settings under `dask`",
    )
    yield Row("scheduler.resources.limits.memory", "quantity", None, "scheduler.memory", "", "size")
    yield Row("scheduler.resources.limits", "quantities", None, limits, "", "limits")
    yield Row("scheduler.serviceAccountName", "text", None, f"{ours}.service_account")
    yield from _monitor("scheduler", "serviceMonitor", "targetLabels")


def _worker() -> Iterator[Row]:
    group, ours = "workers.NAME", "kubernetes.workers.NAME"
    yield Row("worker.name", "text", "worker", why=_TEXT)
    yield Row("worker.image.repository", "text", _STOCK, f"{ours}.image", _IMAGE, "image")
    yield Row("worker.image.tag", "text", TAG, f"{ours}.image", rule="part_of")
    yield Row(
        "worker.image.dask_worker",
        "text",
        "dask-worker",
        why="a worker is started as `dask worker`; for CUDA write `worker-class` under `dask`",
    )
    yield Row("worker.replicas", "count", 3, f"{group}.count", "", "count")
    yield Row(
        "worker.strategy.type",
        "text",
        "RollingUpdate",
        why="members are replaced one after another, each drained; see max_surge",
    )
    yield Row(
        "worker.custom_scheduler_url",
        "text",
        why="workers belong to the scheduler of their own cluster file",
    )
    yield Row("worker.env", "maps", None, f"{group}.env", "`DASK_…` becomes NAME's `dask`", "env")
    yield Row("worker.extraArgs", "texts", [], f"{group}.extra_args", _PART, "arguments")
    threads = f"{group}.threads"
    yield Row("worker.threads_per_worker", "positive", None, threads, "", "integer")
    cpu = "rounded up to whole threads; the limit itself is kept beside it"
    yield Row("worker.resources.limits.cpu", "quantity", None, threads, cpu, "processors")
    yield Row(
        "worker.resources.limits.memory",
        "quantity",
        None,
        f"{group}.memory",
        "of one process; the pod may use a tenth and 256 MiB more, so that Dask notices first",
        "process_memory",
    )
    limits = f"{ours}.resources.limits"
    yield Row("worker.resources.limits", "quantities", None, limits, "", "limits")
    default = "where there are limits and this is none of them, as in the chart"
    yield Row("worker.default_resources.cpu", "quantity", 1, threads, default, "default_cpu")
    memory = f"{group}.memory"
    yield Row("worker.default_resources.memory", "text", "4GiB", memory, default, "default_memory")
    yield from _pod("worker", ours)
    yield Row("worker.mounts.volumes", "maps", None, f"{ours}.volumes", rule="volumes")
    yield Row("worker.mounts.volumeMounts", "maps", None, f"{ours}.volume_mounts", rule="mounts")
    yield Row("worker.annotations", "texts by name", {}, f"{ours}.annotations")
    yield Row("worker.serviceAccountName", "text", None, f"{ours}.service_account")
    ports = "with one port more for each process, since its nanny takes one"
    yield Row("worker.port", "port", None, f"{group}.ports", ports, "ports")
    yield Row(
        "worker.portDashboard",
        "port",
        8790,
        why="a worker's own pages are off: the scheduler's dashboard shows them",
    )
    yield from _monitor("worker", "podMonitor", "podTargetLabels")


def _jupyter() -> Iterator[Row]:
    ours, limits = "kubernetes.jupyter", "kubernetes.jupyter.resources.limits"
    yield Row("jupyter.name", "text", "jupyter", why=_TEXT)
    yield Row("jupyter.enabled", "flag", True, "jupyter", "`null` for none", "jupyter")
    on = "jupyter.enabled"
    rows = [
        Row("jupyter.rbac", "flag", True, why="JupyterLab has no rights in Kubernetes"),
        Row("jupyter.image.repository", "text", f"{_STOCK}-notebook", f"{ours}.image", "", "image"),
        Row("jupyter.image.tag", "text", TAG, f"{ours}.image", rule="part_of"),
        *_pod("jupyter", ours),
        Row("jupyter.replicas", "count", 1, why="there is one JupyterLab"),
        Row("jupyter.serviceType", "text", "ClusterIP", f"{ours}.service.type"),
        Row("jupyter.servicePort", "port", 80, why="its Service has the port of `jupyter.port`"),
        Row("jupyter.password", "text", "", why=_TOKEN),
        Row("jupyter.passwordHint", "text", "dask", why=_TOKEN),
        Row("jupyter.env", "maps", None, f"{ours}.extra_pod_spec", "", "env"),
        Row("jupyter.command", "any", why=_STARTED),
        Row("jupyter.args", "any", why=_STARTED),
        Row("jupyter.extraConfig", "text", why=_STARTED, rule="configuration"),
        Row("jupyter.resources.limits.memory", "quantity", None, "jupyter.memory", "", "size"),
        Row("jupyter.resources.limits", "quantities", None, limits, "", "limits"),
        Row(
            "jupyter.mounts.volumes",
            "maps",
            None,
            f"{ours}.volumes",
            "a claim on /home/jovyan becomes kubernetes.jupyter.storage.claim",
            "volumes",
        ),
        Row("jupyter.mounts.volumeMounts", "maps", None, f"{ours}.volume_mounts", rule="mounts"),
        Row("jupyter.serviceAccountName", "text", "dask-jupyter", f"{ours}.service_account"),
        *_ingress(
            "jupyter",
            "dask-jupyter.example.com",
            {
                "enabled": f"{ours}.ingress",
                "rule": "ingress",
                "hostname": f"{ours}.ingress.host",
                "ingressClassName": f"{ours}.ingress.class_name",
                "annotations": f"{ours}.ingress.annotations",
                "tls": f"{ours}.ingress.tls_secret",
                "secretName": f"{ours}.ingress.tls_secret",
            },
            "JupyterLab serves HTTPS itself: most controllers need an annotation that says so",
        ),
    ]
    for row in rows:
        yield (
            row
            if row.needs
            else Row(row.key, row.kind, row.usual, row.ours, row.why, row.rule, needs=on)
        )


ROWS: tuple[Row, ...] = (
    Row("nameOverride", "text", why=_NAMES),
    Row("fullnameOverride", "text", why=_NAMES),
    *_scheduler(),
    Row("webUI.name", "text", "webui", why=_NAMES),
    Row("webUI.servicePort", "port", 80, why=_DASHBOARD),
    *_ingress("webUI", "dask-ui.example.com", {}, _DASHBOARD),
    *_worker(),
    Row(
        "additional_worker_groups",
        "maps",
        [],
        "workers.NAME",
        "each with what `worker` says as well, and a label of its own",
    ),
    *_jupyter(),
)


def rows(section: str) -> tuple[Row, ...]:
    """Return the rows of a part of the chart, in their order."""
    return tuple(row for row in ROWS if row.section == section)


def defaults() -> dict[str, Any]:
    """Return what the chart has when nothing is written."""
    found: dict[str, Any] = {}
    for row in ROWS:
        *above, last = row.key.split(".")
        place = found
        for step in above:
            place = place.setdefault(step, {})
        if row.usual is not None:
            place[last] = row.usual
    return found
