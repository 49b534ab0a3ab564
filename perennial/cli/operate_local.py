"""`status`, `logs`, `restart`, `scale`, `rotate`, `open` for a cluster on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perennial.cli.output import Progress, ask_before_actors_end, confirm, say_abandoned
from perennial.errors import PerennialError

if TYPE_CHECKING:
    from perennial.certificates import Pair
    from perennial.doctor import Finding
    from perennial.platforms.local.deploy import Deployment


def _find(name: str) -> Deployment:
    from perennial.platforms.local.deploy import find

    return find(name, lambda _text: None)


def row(name: str) -> dict[str, Any]:
    """Describe a cluster for `list`."""
    from perennial.platforms.local import deploy

    deployment = _find(name)
    counts = deployment.cluster.dashboard.counts()
    return {
        "name": name,
        "platform": deployment.spec.platform,
        "state": "up" if counts else "down",
        "workers": counts.workers if counts else 0,
        "scheduler": deploy.connection(deployment.spec, deployment.paths).scheduler_address,
        "file": deployment.state.file,
    }


def report(name: str) -> dict[str, Any]:
    """Look at every service and ask the scheduler for its numbers."""
    from perennial.platforms.local.status import report as look

    return look(_find(name))


def logs(name: str, service: str | None, lines: int, follow: bool) -> Iterator[tuple[str, str]]:
    """Yield the lines of logs, each with the service's name; with ``follow`` for ever."""
    from perennial.platforms.local.operate import members
    from perennial.supervision import logs as reading

    deployment = _find(name)
    folder = deployment.paths.logs
    if service is None:
        paths = sorted(folder.glob("*.log"))
    elif (folder / f"{service}.log").is_file():  # also supervisord, and who has left
        paths = [folder / f"{service}.log"]
    else:
        paths = [folder / f"{member}.log" for member in members(deployment, service)]
    if follow:
        yield from ((path.stem, line) for path, line in reading.follow(paths, lines))
    for path in paths:
        yield from ((path.stem, line) for line in reading.tail(path, lines))


def restart(name: str, service: str, force: bool) -> int:
    """Restart a service, or a group's members one after another; returns how many."""
    from perennial.lock import exclusive
    from perennial.platforms.local import deploy, operate

    deployment = _find(name)
    if service == "scheduler" and not force:
        counts = deployment.cluster.dashboard.counts()
        if counts and (counts.processing or counts.memory):
            confirm(
                f"{counts.processing} running tasks and {counts.memory} results are lost with the"
                " scheduler. Restart it?",
                "--force",
            )
    if not force:
        ask_before_actors_end(operate.actors(deployment, service), service)
    with Progress(name) as say, exclusive(deployment.paths.lock, say):
        found = deploy.find(name, say)
        number = operate.restart(found, service)
    say_abandoned(name, {m: found.cluster.abandoned(m) for m in operate.members(found, service)})
    return number


def scale(name: str, wanted: Mapping[str, int], force: bool) -> dict[str, tuple[int, int]]:
    """Give groups another size; returns the sizes before and now."""
    from perennial.lock import exclusive
    from perennial.platforms.local import deploy, operate

    deployment = _find(name)
    with Progress(name) as say, exclusive(deployment.paths.lock, say):
        changed = operate.scale(deploy.find(name, say), wanted, force)
    say_abandoned(name, changed.abandoned)
    return {group: (deployment.state.sizes[group], changed.state.sizes[group]) for group in wanted}


def rotate(name: str) -> str:
    """Renew the cluster's certificates; returns what to say."""
    from perennial import authority
    from perennial.lock import exclusive
    from perennial.platforms.local import deploy, operate

    deployment = _find(name)
    with Progress(name) as say, exclusive(deployment.paths.lock, say):
        operate.rotate(deploy.find(name, say))
    first = min(authority.expiry(deployment.paths.tls).values())
    return (
        f"certificates renewed, the first expires on {first:%Y-%m-%d}\n"
        "  bundles that were handed out stay valid until their own date"
    )


def rotate_authority(name: str, force: bool) -> str:
    """Make a new authority and restart what trusts the old one; returns what to say."""
    from perennial.cli.life_local import show
    from perennial.lock import exclusive
    from perennial.platforms.local import deploy, operate

    deployment = operate.under_new_authority(_find(name))
    if not force:
        show(deployment)
        confirm("Every bundle ends, and these restart. Do this?", "--force")
    with Progress(name) as say, exclusive(deployment.paths.lock, say):
        operate.rotate_authority(operate.under_new_authority(deploy.find(name, say)))
    return (
        "a new authority, and new keys for every service\n"
        "  every bundle has ended; `perennial connect --export FILE --for NAME` writes new ones"
    )


def issue(name: str, person: str) -> Pair:
    """Issue a client's certificate to one person."""
    from perennial import revocation
    from perennial.lock import exclusive

    deployment = _find(name)
    with Progress(name) as say, exclusive(deployment.paths.lock, say):
        return revocation.issue(deployment.paths.tls, name, person)


def revoke(name: str, person: str) -> int:
    """Revoke the certificates of a person; returns how many were not revoked before."""
    from perennial import revocation
    from perennial.lock import exclusive

    deployment = _find(name)
    with Progress(name) as say, exclusive(deployment.paths.lock, say):
        return revocation.revoke(deployment.paths.tls, name, person)


def jupyter(name: str) -> tuple[str, Path, Path] | None:
    """Say where JupyterLab is, its token's file, and a private folder for the page that logs in."""
    from perennial.jupyter import state_directory
    from perennial.platforms.local import deploy
    from perennial.platforms.local.layout import site
    from perennial.supervision.listening import is_of

    deployment = _find(name)
    spec, paths = deployment.spec, deployment.paths
    url = deploy.jupyter_url(spec)
    if url is None or spec.jupyter is None:
        return None
    if not is_of(paths.run / "jupyter.lock", spec.jupyter.port):
        # Whoever takes the port while JupyterLab is down would be given its token.
        raise PerennialError(
            f"{name}: JupyterLab does not listen on port {spec.jupyter.port}, so its token is not"
            " given away; see `perennial status` and `perennial logs jupyter`"
        )
    return url, deploy.token_file(spec, paths), Path(state_directory(site(spec, paths)))


def dashboard(name: str) -> tuple[str, Path, Path]:
    """Say where the dashboard is, its token's file, and a folder for the page that logs in."""
    from perennial.pages import token_of
    from perennial.supervision.listening import is_of

    deployment = _find(name)
    paths, port = deployment.paths, deployment.spec.scheduler.dashboard_port
    token = Path(token_of(str(paths.pages)))
    if not (is_of(paths.run / "scheduler.lock", port) and token.is_file()):
        raise PerennialError(
            f"{name}: the scheduler does not listen on port {port}, so the dashboard's token is not"
            " given away; see `perennial status` and `perennial logs scheduler`"
        )
    return f"http://127.0.0.1:{port}/status", token, paths.pages


def enable(name: str) -> str:
    """Bring the cluster back after a reboot; returns the unit's name."""
    from perennial.lock import exclusive
    from perennial.supervision import boot

    deployment = _find(name)
    with Progress(name) as say, exclusive(deployment.paths.lock, say):
        file = deployment.state.file or str(deployment.paths.spec)
        longest = max(program.stop_timeout for program in deployment.programs.values())
        return boot.enable(deployment.paths, deployment.cluster.supervisor, file, longest, say)


def disable(name: str) -> str:
    """Undo `enable`; returns the unit's name."""
    from perennial.supervision import boot

    return boot.disable(name)


def examine(name: str, python: str | None) -> Iterator[Finding]:
    """Run the checks of `doctor`."""
    from perennial.platforms.local.doctor import examine as run

    return run(_find(name), python)
