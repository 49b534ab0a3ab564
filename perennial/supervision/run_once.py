"""The part of a cluster that stands on one machine, changed by the program that asks on stdin.

A deploy to a machine whose services run under supervisord runs this there, as the login
user: ``python -m perennial.local.part`` reads one JSON object and answers with lines of
``{"say": TEXT}`` and at last ``{"ok": ...}`` or ``{"error": TEXT}``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from perennial.errors import PerennialError
from perennial.files import make_private, read_json, write_atomic
from perennial.lock import exclusive
from perennial.paths import ClusterPaths
from perennial.supervision.cluster import Cluster
from perennial.supervision.dashboard import Dashboard
from perennial.supervision.plan import Change
from perennial.supervision.program import Program, from_json


def main() -> None:
    """Do what is asked for."""
    request = json.loads(sys.stdin.readline())
    try:
        _answer(ok=perform(request))
    except PerennialError as error:
        _answer(error=str(error))
    except OSError as error:
        _answer(error=f"{error.filename or ''}: {error.strerror or error}")


def perform(request: dict[str, Any]) -> Any:
    """Apply programs, or make ready for them."""
    paths = ClusterPaths(Path(request["root"]))
    pages = request.get("dashboard")
    lock = str(paths.run / "scheduler.lock")
    dashboard = Dashboard(0, socket=pages, lock=lock) if pages else None
    cluster = Cluster(paths, dashboard, lambda text: _answer(say=text))
    programs = {entry["name"]: from_json(entry) for entry in request["programs"]}
    if request["do"] == "prepare":
        # Before systemd starts supervisord; it has nothing to run yet.
        for folder in (paths.units, paths.logs, paths.run, paths.scratch):
            make_private(folder)
        write_atomic(paths.supervisord_conf, request["conf"])
    else:
        with exclusive(paths.lock, lambda text: _answer(say=text)):
            chosen = _chosen(paths, request.get("kept") or {})
            programs = {
                name: program
                for name, program in programs.items()
                if program.group not in request.get("kept", {}) or name in chosen
            }
            for name in set(request.get("spoilt", ())) & set(programs):
                write_atomic(paths.units / f"{name}.conf", programs[name].text)
            steps = again(cluster.plan(programs), programs, request)
            steps = tuple(s for s in steps if s.action != "stop" or s.name not in chosen)
            later = postponed(steps, programs, request.get("turn"))
            now = [step for step in steps if step not in later]
            cluster.apply(programs, now, request["conf"], lambda: None)
            return [
                (step.name, programs[step.name].group) for step in later if step.name in programs
            ]
    return []


def again(
    steps: Sequence[Change], programs: Mapping[str, Program], request: Mapping[str, Any]
) -> tuple[Change, ...]:
    """Replace as well what is to be replaced although its text stays. Pure."""
    turn, known = list(request.get("turn") or ()), {step.name for step in steps}
    more = [
        Change("replace", name, "changed")
        for name in request.get("again", ())
        # Without a turn of its own it was replaced before the first one had its own.
        if name in programs and name not in known and (programs[name].group or not turn)
        if name not in turn[:-1]
    ]
    return (*steps, *more)


def postponed(
    steps: Sequence[Change], programs: Mapping[str, Program], turn: Collection[str] | None
) -> list[Change]:
    """Choose what waits until it is a member's turn to be away. Pure.

    Who is no longer asked for leaves last, so that all data has somewhere to go.
    """
    replaced = {step.name for step in steps if step.action == "replace"}
    if turn is None or "scheduler" in replaced:  # then the work is lost, and all go at once
        return []
    waiting = {name for name in replaced - set(turn) if programs[name].group}
    return [
        step
        for step in steps
        if waiting and (step.name in waiting or (step.action == "stop" and "-" in step.name))
    ]


def _chosen(paths: ClusterPaths, kept: dict[str, str]) -> set[str]:
    """Name the members that the keeper of this machine keeps just now."""
    found = read_json(paths.root.parent / "keeper" / "wanted.json", {}) if kept else {}
    return {f"{prefix}{n}" for group, prefix in kept.items() for n in found.get(group, ())}


def _answer(**said: Any) -> None:
    print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
