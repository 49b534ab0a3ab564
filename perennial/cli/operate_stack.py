"""`status`, `logs`, `restart`, `scale`, `open` for a cluster on machines over SSH."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from perennial.cli.output import Progress, ask_before_actors_end, confirm, say_abandoned
from perennial.errors import PerennialError

if TYPE_CHECKING:
    from perennial.doctor import Finding
    from perennial.platforms.hosts.operator import Operator

#: Seconds in which a scheduler must accept a connection to count as up in `list`.
PATIENCE = 1.0


def _find(name: str) -> Operator:
    from perennial.platforms.hosts.operator import find

    return find(name)


def row(name: str) -> dict[str, Any]:
    """Describe a cluster for `list`; asks the scheduler's port alone, not the machines."""
    from perennial.platforms.hosts.share import connection_parts

    operator = _find(name)
    address = connection_parts(operator.spec).scheduler
    host, _, port = address.rpartition("://")[2].rpartition(":")
    state = "down"
    with suppress(OSError):
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()
        state = "up"
    return {
        "name": name,
        "platform": operator.spec.platform,
        "state": state,
        "workers": None,
        "scheduler": address,
        "file": operator.file,
    }


def report(name: str) -> dict[str, Any]:
    """Look at every service on every machine, and ask the scheduler for its numbers."""
    return _find(name).report()


def logs(name: str, service: str | None, lines: int, follow: bool) -> Iterator[tuple[str, str]]:
    """Yield the lines of logs, each with the service's name; with ``follow`` for ever."""
    operator = _find(name)
    return operator.follow(service, lines) if follow else operator.logs(service, lines)


def restart(name: str, service: str, force: bool) -> int:
    """Restart a service, or a group's members one after another; returns how many."""
    from perennial.lock import exclusive

    operator = _find(name)
    if service == "scheduler" and not force:
        counts = operator.report()["scheduler"]
        if counts and (counts["processing"] or counts["memory"]):
            confirm(
                f"{counts['processing']} running tasks and {counts['memory']} results are lost"
                " with the scheduler. Restart it?",
                "--force",
            )
    if not force and service != "scheduler":
        ask_before_actors_end(
            {each.name: each.actors for each in operator.actors() if each.is_meant(service)},
            service,
        )
    with Progress(name) as say, exclusive(operator.paths.lock, say):
        abandoned, number = operator.restart(service, say)
    say_abandoned(name, abandoned)
    return number


def scale(name: str, wanted: Mapping[str, int], force: bool) -> dict[str, tuple[int, int]]:
    """Give groups another size; returns the sizes before and now."""
    from perennial.lock import exclusive
    from perennial.platforms.hosts import resizing

    operator, abandoned = _find(name), dict[str, str]()
    with Progress(name) as say, exclusive(operator.paths.lock, say):
        done = resizing.scale(operator, wanted, say, force, abandoned.__setitem__)
    say_abandoned(name, abandoned)
    return done


def rotate(name: str) -> NoReturn:
    """Say how certificates are renewed here."""
    raise PerennialError(
        f"{name}: certificates of machines are renewed by `perennial up` in the last 30 days of"
        " their year, services drained one after another; there is nothing to rotate by hand"
    )


def rotate_authority(name: str, _force: bool) -> NoReturn:
    """Say how a new authority is made here."""
    raise PerennialError(
        f"{name}: its authority is in Pulumi's state and is not replaced under running machines;"
        " `perennial down` and then `perennial up` make a new one, which ends every bundle"
    )


def issue(name: str, _person: str) -> NoReturn:
    """Say that bundles are not issued to people here."""
    raise PerennialError(
        f"{name}: machines over SSH cannot revoke one certificate, so none is issued to one person;"
        " export without --for, which hands out the operator's certificate"
    )


def revoke(name: str, _person: str) -> NoReturn:
    """Say how a bundle is ended here."""
    raise PerennialError(
        f"{name}: machines over SSH cannot revoke one certificate; `perennial down` and then"
        " `perennial up` make a new authority, which ends every bundle"
    )


def jupyter(name: str) -> tuple[str, Path, Path] | None:
    """Say where JupyterLab is, its token's file, and a private folder for the page that logs in."""
    operator = _find(name)
    url = operator.jupyter_url()
    if url is None:
        return None
    if not operator.serves_jupyter():
        # Whoever takes the port while JupyterLab is down would be given its token.
        raise PerennialError(
            f"{name}: JupyterLab does not listen at {url}, so its token is not given away;"
            " see `perennial status` and `perennial logs jupyter`"
        )
    return url, operator.token_file, operator.paths.secrets


def dashboard(name: str) -> NoReturn:
    """Say where the dashboard is."""
    raise PerennialError(
        f"{name}: on hosts JupyterLab shows the dashboard at /dashboard/status: `perennial open`;"
        " it has to be on the scheduler's machine"
    )


def enable(name: str) -> NoReturn:
    """Say that there is nothing to enable."""
    raise PerennialError(f"{name}: services on hosts come back at boot by themselves")


def disable(name: str) -> NoReturn:
    """Say how to take a cluster away."""
    raise PerennialError(f"{name}: services on hosts come back at boot until `perennial down`")


def examine(name: str, python: str | None) -> Iterator[Finding]:
    """Run the checks of `doctor`."""
    from perennial.platforms.hosts.doctor import examine as run

    return run(_find(name), python)
