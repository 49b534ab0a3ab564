"""How the chart's monitors for Prometheus are taken over: here one holds for all parts. Pure."""

from __future__ import annotations

from perennial.platforms.kubernetes.chart.value import Value

#: Key of the cluster file, by the chart's.
_KEYS = {
    "additionalLabels": "labels",
    "interval": "interval",
    "jobLabel": "job_label",
    "targetLabels": "target_labels",
    "podTargetLabels": "target_labels",
    "metricRelabelings": "relabelings",
}


def metrics(of: Value) -> None:
    """Serve the metrics."""
    if of.value and of.put({}):
        of.differ(of.row.why)


def monitor(of: Value) -> None:
    """Take a monitor; that of the workers is laid under that of the scheduler."""
    if not of.value:
        return
    own = of.part["metrics"][of.row.key.split(".")[2]]
    made = {_KEYS[key]: value for key, value in own.items() if key in _KEYS and value}
    there = of.draft.get(of.row.ours)
    if there is None:
        of.put(made)
    elif there != made:
        of.differ("one monitor holds for all parts: it is as scheduler.metrics.serviceMonitor says")
