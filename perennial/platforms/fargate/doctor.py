"""Check a cluster on Fargate for problems: tasks, services, secrets, certificates, the client."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from perennial import authority
from perennial.aws import names
from perennial.aws.client import Aws, unless
from perennial.aws.failures import Cause
from perennial.doctor import Finding, checks, guarded
from perennial.paths import cluster_state
from perennial.platforms.fargate.ecs import Ecs, EcsService
from perennial.platforms.fargate.troubles import of_service, of_task
from perennial.state import command

if TYPE_CHECKING:
    from perennial.spec import ClusterSpec

#: Tasks of a service that stopped, the latest of which are looked at.
FEW = 3


class Running(Protocol):
    """What is looked at: a cluster that runs, see `perennial.platforms.fargate.runtime`."""

    @property
    def spec(self) -> ClusterSpec:
        """The cluster as it was deployed."""

    @property
    def aws(self) -> Aws:
        """AWS, as this user reaches it."""

    @property
    def ecs(self) -> Ecs:
        """Its services."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of its services."""


def examine(running: Running, python: str | None) -> Iterator[Finding]:
    """Run every check on a cluster of this user's."""
    spec = running.spec
    yield from guarded("services", lambda: services(running))
    yield from guarded("secrets", lambda: secrets(running))
    yield from guarded("certificates", lambda: certificates(spec))
    yield checks.secrets(cluster_state(spec.name).root)
    yield from guarded("client", lambda: checks.as_client(spec.name, python, cut=True))


def services(running: Running) -> Iterator[Finding]:
    """Say of each service what it lacks, and why its last tasks stopped."""
    found = running.ecs.services(running.keys)
    up, good = command("up", running.spec.name), True
    for key in running.keys:
        service = found.get(key)
        if service is None:
            good = False
            yield Finding("services", "error", f"{key}: no such service of ECS; {up} makes it")
            continue
        if said := of_service(service):
            good = False
            yield Finding("services", "error", f"{key}: {said}")
        if service.running < service.desired:
            for task in running.ecs.tasks(key, "STOPPED")[-FEW:]:
                trouble = of_task(key, task)
                if trouble is not None and trouble.is_wrong:
                    good = False
                    yield Finding("services", "error", f"{key}-{task.id}: {trouble.text}")
        if service.deployments > 1:
            yield Finding("services", "warning", f"{key}: a new version is being rolled out")
        elif said := _rolled_back(running, service):
            good = False
            yield Finding("services", "error", said)
    if good:
        counts = ", ".join(f"{key} {found[key].running}/{found[key].desired}" for key in found)
        whole = all(each.running == each.desired for each in found.values())
        yield Finding("services", "ok" if whole else "warning", f"tasks that run: {counts}")


def _rolled_back(running: Running, service: EcsService) -> str:
    """Say that a service does not run the newest version of its task; empty where it does."""
    newest = running.ecs.newest(names.name_of(running.spec.name, service.name))
    if newest == service.definition:
        return ""
    runs, new = (arn.rpartition("/")[2] for arn in (service.definition, newest))
    up = command("up", running.spec.name)
    return (
        f"{service.name}: runs {runs}, the newest is {new}; ECS goes back where a version does not"
        f" start: correct the cluster file, then {up}"
    )


def secrets(running: Running) -> Iterator[Finding]:
    """Say which secret is not there: no task that reads it can start."""
    name = running.spec.name
    roles = ["scheduler", "worker", *({"jupyter", "scaler"} & set(running.keys))]
    wanted = [names.secret_name(name, role) for role in sorted(roles)]
    missing = [each for each in wanted if not _is_there(running.aws, each)]
    if missing:
        remedy = f"no task that reads it starts; {command('up', name)} makes it"
        yield Finding("secrets", "error", f"missing: {', '.join(missing)}; {remedy}")
    else:
        yield Finding("secrets", "ok", f"{len(roles)} there, one of each role")


def _is_there(aws: Aws, secret: str) -> bool:
    look = aws.client("secretsmanager").describe_secret
    what = f"look at the secret {secret}"
    return unless(Cause.MISSING, lambda: aws.call(what, look, SecretId=secret)) is not None


def certificates(spec: ClusterSpec) -> Iterator[Finding]:
    """Check how long the certificates of this user are good."""
    paths = cluster_state(spec.name)
    expiry = dict(authority.expiry(paths.tls)) if paths.tls.is_dir() else {}
    yield checks.certificates(expiry, datetime.now(UTC), command("up", spec.name))
