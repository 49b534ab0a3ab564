"""Operate a cluster on this machine: restart, scale, rotate certificates, take down."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from perennial import authority, connect
from perennial.errors import PerennialError
from perennial.platforms.local import background, deploy
from perennial.platforms.local.deploy import Deployment
from perennial.platforms.local.layout import site
from perennial.sizes import check_sizes
from perennial.state import command
from perennial.supervision.plan import Change

#: What a scaler's folder keeps while the cluster is down.
LASTING = ("history.json", "records.jsonl")


def members(deployment: Deployment, name: str) -> list[str]:
    """Programs that a word means: a service, a member, or all members of a group."""
    programs = deployment.programs
    if name in programs:
        return [name]
    group = [program.name for program in programs.values() if program.group == name]
    if group or name in deployment.spec.workers:
        return group
    known = ", ".join([*deployment.spec.workers, *programs])
    raise PerennialError(f"{deployment.spec.name} has no service or group {name!r}; it has {known}")


def restart(deployment: Deployment, name: str) -> list[str]:
    """Restart a service or the members of a group, one after another; return their names."""
    names = members(deployment, name)
    _must_run(deployment)
    background.restart(deployment.cluster, deployment.programs, names)
    return names


def scale(deployment: Deployment, wanted: Mapping[str, int], force: bool = False) -> Deployment:
    """Give groups another size: new members start, the last ones leave, drained."""
    check_sizes(deployment.spec, wanted, force)
    _must_run(deployment)
    deploy.check_room(deployment.spec, wanted, force)
    changed = deploy.resized(deployment, {**deployment.state.sizes, **wanted})
    groups = {name: program.group for name, program in changed.programs.items()}
    foreign = [
        step.name
        for step in changed.steps
        if step.action == "replace" or groups.get(step.name, "") is None
    ]
    if foreign:
        raise PerennialError(
            f"{', '.join(foreign)} is not as the cluster file says; run"
            f" {command('up', deployment.spec.name)} first"
        )
    deploy.apply(changed)
    return changed


def rotate(deployment: Deployment) -> None:
    """Renew the certificates; what runs takes them up within seconds, nothing restarts."""
    spec, paths = deployment.spec, deployment.paths
    if not spec.security.tls:
        raise PerennialError(f"{spec.name} has no certificates: security.tls is false")
    names = (*authority.local_names(), spec.options.address)
    authority.ensure(paths.tls, spec.name, names)
    authority.renew(paths.tls, spec.name, names)


def under_new_authority(deployment: Deployment) -> Deployment:
    """Plan to restart everything that trusts the authority, and what is to be done anyway.

    JupyterLab and its kernels go on: a new client reads the new certificate.
    """
    spec = deployment.spec
    if not spec.security.tls:
        raise PerennialError(f"{spec.name} has no authority: security.tls is false")
    _must_run(deployment)
    names = [name for name in deployment.programs if name not in ("health", "jupyter")]
    # What does not run is started as it would be.
    others = {
        step.name: step for step in deployment.steps if not step.stops or step.name not in names
    }
    restarted = [Change("replace", name, "new authority") for name in names if name not in others]
    return replace(deployment, steps=(*others.values(), *restarted))


def rotate_authority(deployment: Deployment) -> None:
    """Make a new authority and new keys, and restart what trusts the old one.

    The certificates are there before anything stops: cut off, whatever restarts by itself takes
    them up, and the same command finishes the work.
    """
    spec, paths = deployment.spec, deployment.paths
    names = (*authority.local_names(), spec.options.address)
    authority.replace(paths.tls, spec.name, names)
    deploy.apply(deployment)


def take_down(deployment: Deployment, purge: bool) -> None:
    """Stop the cluster and forget it; with ``purge`` its certificates and logs as well."""
    background.take_down(deployment.cluster, purge)


def forget(deployment: Deployment, purge: bool) -> None:
    """Do what `take_down` says, in this process."""
    spec, paths = deployment.spec, deployment.paths
    deployment.cluster.down(deployment.programs.values())
    current = connect.current()
    if current is not None and current.cluster == spec.name:
        connect.remove(spec.name)
    for folder in {paths.scratch, Path(site(spec, paths).scratch)}:
        shutil.rmtree(folder, ignore_errors=True)
    _forget_begun(paths.scaler)
    for path in (paths.spec, paths.state, paths.connection, paths.machine, paths.stack):
        path.unlink(missing_ok=True)
    if purge:
        shutil.rmtree(paths.root)


def _forget_begun(folder: Path) -> None:
    """Remove what a scaler has begun and was asked for; what it has learned and recorded stays."""
    for path in folder.glob("*"):
        if not path.name.startswith(LASTING):
            path.unlink(missing_ok=True)


def _must_run(deployment: Deployment) -> None:
    if not deployment.cluster.supervisor.pid():
        name = deployment.spec.name
        raise PerennialError(
            f"{name}: supervisord does not run; {command('up', name)} starts it again"
        )
