"""Have a cluster changed by a process that outlives the command that asks.

A command may be stopped by what it does: typed in a terminal of the cluster's own JupyterLab it
ends with Jupyter, between the stop and the start. So stops and starts are made by a process in a
session of its own (`perennial.platforms.local.detached`), which is nobody's child, holds the
cluster's lock together with the command, and finishes although nobody listens any more.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import IO, TYPE_CHECKING, Any, cast

from perennial import lock
from perennial.errors import PerennialError
from perennial.supervision import supervisor

if TYPE_CHECKING:
    from perennial.supervision.cluster import Cluster
    from perennial.supervision.dashboard import Dashboard
    from perennial.supervision.plan import Change
    from perennial.supervision.program import Program


def apply(
    cluster: Cluster,
    programs: Mapping[str, Program],
    steps: Sequence[Change],
    conf: str,
    ready: Callable[[], None],
) -> None:
    """Carry a plan out, see `perennial.supervision.cluster.Cluster.apply`."""
    request = {"steps": [asdict(step) for step in steps], "conf": conf}
    _carry_out({"do": "apply", **_cluster(cluster, programs), **request}, cluster.say, ready)


def restart(cluster: Cluster, programs: Mapping[str, Program], names: Sequence[str]) -> None:
    """Restart services, see `perennial.supervision.cluster.Cluster.restart`."""
    request = {"do": "restart", **_cluster(cluster, programs), "names": list(names)}
    _carry_out(request, cluster.say)


def take_down(cluster: Cluster, purge: bool) -> None:
    """Stop a cluster and forget it, see `perennial.platforms.local.operate.forget`."""
    request = {"do": "down", "name": cluster.paths.root.name, "purge": purge}
    _carry_out(request, cluster.say)


#: Seconds that the process may take to end once it has done everything.
ENDS = 10.0


def _cluster(cluster: Cluster, programs: Mapping[str, Program]) -> dict[str, object]:
    return {
        "root": str(cluster.paths.root),
        "dashboard": pages(cluster.dashboard),
        "programs": [asdict(program) for program in programs.values()],
    }


def pages(dashboard: Dashboard) -> dict[str, object]:
    """Write where a scheduler's pages are as values that JSON can hold."""
    return {"port": dashboard.port, "socket": dashboard.socket, "lock": dashboard.lock}


def _carry_out(
    request: Mapping[str, Any], say: Callable[[str], None], ready: Callable[[], None] = lambda: None
) -> None:
    """Have a request carried out; report its progress, and raise its error."""
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "perennial.platforms.local.detached"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
        text=True,
        start_new_session=True,
        pass_fds=lock.held(),
    ) as process:
        stdin, stdout = cast(IO[str], process.stdin), cast(IO[str], process.stdout)
        with stdin:
            stdin.write(json.dumps(request) + "\n")
        _listen(stdout, say, ready)


def _listen(answers: Iterator[str], say: Callable[[str], None], ready: Callable[[], None]) -> None:
    pid = 0
    while True:
        try:
            for line in answers:
                answer = json.loads(line)
                if "say" in answer:
                    say(answer["say"])
                elif "ready" in answer:
                    ready()
                elif "error" in answer:
                    raise PerennialError(answer["error"])
                elif "interrupted" in answer:
                    raise SystemExit(130)
                elif "ok" in answer:
                    supervisor.wait_gone(pid, ENDS)
                    return
                pid = answer.get("pid", pid)
            raise PerennialError(
                "the process that changes the cluster has ended; run the same command again"
            )
        except KeyboardInterrupt:
            if not pid:  # a second Ctrl-C: leave the process to finish by itself
                raise
            say("ends once what it has stopped runs again")
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)
            pid = 0
