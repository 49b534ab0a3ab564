"""Whether this user may have as many processes and threads as a cluster needs. Pure."""

from __future__ import annotations

from perennial.errors import Fault
from perennial.spec import ClusterSpec

#: Below this limit supervisord does not start (its `minprocs`).
LEAST = 200
#: Threads of a worker process and its nanny beside those that run tasks, of the scheduler with
#: supervisord, of Jupyter and of the scaler; counted, a lower limit.
WORKER, SCHEDULER, JUPYTER, SCALER = 10, 6, 6, 3


def needed(spec: ClusterSpec) -> int:
    """Count the processes and threads that a cluster has at least, at its first sizes. Pure."""
    workers = sum(g.count * g.processes * (WORKER + g.threads) for g in spec.workers.values())
    jupyter = JUPYTER if spec.jupyter is not None else 0
    scaler = SCALER if spec.scaler is not None and spec.scaled else 0
    return workers + SCHEDULER + jupyter + scaler


def faults(spec: ClusterSpec, most: int | None, others: int) -> tuple[list[Fault], list[Fault]]:
    """Compare a cluster with the limit: errors and warnings. Pure."""
    need = needed(spec)
    if most is None or most >= max(LEAST, need + others):
        return [], []
    least = f"{LEAST} or more, without which supervisord does not start"
    enough = f"{need + others} or more: {need} for the cluster beside {others} that there are"
    fault = Fault(
        "local",
        f"a limit of {most} processes and threads for this user (`ulimit -Hu`)",
        least if most < LEAST else enough,
        "raise `nproc` in /etc/security/limits.conf and log in anew, or end some",
    )
    return ([fault], []) if most < max(LEAST, need) else ([], [fault])
