"""Changes to a cluster, made by a process of their own that outlives the command that asks.

A command may be stopped by what it does: typed in a terminal of the cluster's own JupyterLab it
ends with Jupyter, between the stop and the start. So stops and starts are made by a process in a
session of its own, which is nobody's child, holds the cluster's lock together with the command, and
finishes although nobody listens any more.

Runs there as ``python -P -m perennial.local.detached``: one JSON object on stdin, answers as lines
of JSON on stdout.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from perennial import lock
from perennial.errors import PerennialError
from perennial.supervision import processes, supervisor

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
    """Stop a cluster and forget it, see `perennial.local.operate.forget`."""
    request = {"do": "down", "name": cluster.paths.root.name, "purge": purge}
    _carry_out(request, cluster.say)


#: Seconds that the process may take to end once it has done everything.
ENDS = 10.0

# In the command


def _cluster(cluster: Cluster, programs: Mapping[str, Program]) -> dict[str, Any]:
    return {
        "root": str(cluster.paths.root),
        "dashboard": pages(cluster.dashboard),
        "programs": [asdict(program) for program in programs.values()],
    }


def pages(dashboard: Dashboard) -> dict[str, Any]:
    """Write where a scheduler's pages are as values that JSON can hold."""
    return {"port": dashboard.port, "socket": dashboard.socket, "lock": dashboard.lock}


def _carry_out(
    request: Mapping[str, Any], say: Callable[[str], None], ready: Callable[[], None] = lambda: None
) -> None:
    """Have a request carried out; tell what is said of it, and raise what goes wrong."""
    with subprocess.Popen(
        [sys.executable, "-P", "-m", __name__],
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
            if not pid:  # told already: whoever insists leaves it to finish by itself
                raise
            say("ends once what it has stopped runs again")
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)
            pid = 0


# In the process of its own


def main() -> None:
    """Do what is asked for."""
    request = json.loads(sys.stdin.readline())
    # Nobody's child: a kernel that ends takes all its descendants with it, whatever their session.
    try:
        child = os.fork()
    except OSError as error:
        _answer(error=processes.cause(error) or str(error))
        return
    if child:
        os._exit(0)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background
    _answer(pid=os.getpid())
    try:
        _perform(request)
        _answer(ok=True)
    except PerennialError as error:
        _answer(error=str(error))
    except KeyboardInterrupt:
        _answer(interrupted=True)
    except Exception as error:
        if why := processes.cause(error):
            _answer(error=why)
            return
        if isinstance(error, OSError):
            _answer(error=f"{error.filename or ''}: {error.strerror or error}".removeprefix(": "))
            return
        debug = bool(os.environ.get("PERENNIAL_DEBUG"))
        _answer(error=traceback.format_exc() if debug else f"{type(error).__name__}: {error}")


def _perform(request: Mapping[str, Any]) -> None:
    if request["do"] == "down":
        from perennial.local import deploy, operate

        operate.forget(deploy.find(request["name"], _say), request["purge"])
        return
    from perennial.paths import ClusterPaths
    from perennial.supervision.cluster import Cluster
    from perennial.supervision.dashboard import Dashboard
    from perennial.supervision.plan import Change
    from perennial.supervision.program import from_json

    programs = {entry["name"]: from_json(entry) for entry in request["programs"]}
    dashboard = Dashboard(**request["dashboard"])
    cluster = Cluster(ClusterPaths(Path(request["root"])), dashboard, _say)
    if request["do"] == "restart":
        cluster.restart(request["names"], programs)
    else:
        steps = [Change(**step) for step in request["steps"]]
        cluster.apply(programs, steps, request["conf"], lambda: _answer(ready=True))


def _say(text: str) -> None:
    _answer(say=text)


def _answer(**said: Any) -> None:
    with suppress(BrokenPipeError):  # the command has gone
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
