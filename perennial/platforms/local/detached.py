"""Changes to a cluster, made by a process of their own, see `background`.

Runs as ``python -P -m perennial.platforms.local.detached``: one JSON object on stdin, answers as
lines of JSON on stdout.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from perennial.errors import PerennialError
from perennial.supervision import processes


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
        from perennial.platforms.local import deploy, operate

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
    with suppress(BrokenPipeError):  # the command has ended
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
