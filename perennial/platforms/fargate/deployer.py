"""The life of a cluster on Fargate: what a stack's deployer has to know of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from perennial.contracts import Removed, Rendered, Say
from perennial.errors import PerennialError
from perennial.paths import cluster_state
from perennial.stacked import StackDeployer, deployed

if TYPE_CHECKING:
    from perennial.plan import Plan
    from perennial.platforms.fargate.ecs import Ecs
    from perennial.spec import ClusterSpec

#: Tasks of a service that could not start, after which nobody waits for it any more. ECS itself
#: tries at least ten times before it goes back to the version before.
HOPELESS = 3


class FargateDeployer(StackDeployer):
    """Deploys with pulumi-aws, by the caller's own credentials."""

    cannot: ClassVar = {
        "forget": "{name}: ECS replaces the tasks of a lost machine by itself",
    }

    def check_room(self, spec: ClusterSpec, force: bool, say: Say) -> None:
        """Ask AWS who is asking, for what the file names, and for the quotas."""
        from perennial.aws import quotas
        from perennial.aws.checks import before, refuse_strangers
        from perennial.aws.client import Aws
        from perennial.platforms.fargate.quotas import needs

        say("asking AWS for the account, the region and the network")
        aws, paths = Aws(spec.options.region, spec.options.profile), cluster_state(spec.name)
        before(spec.name, spec.options, aws)
        had = deployed(paths) if paths.spec.exists() else None
        if had is None:
            refuse_strangers(spec.name, aws)
        if not force:
            quotas.compare(spec, had, needs, aws)

    def plan(self, spec: ClusterSpec, file: str, say: Say) -> Plan:
        """Ask the engine what it would do; say what a month costs."""
        from perennial.platforms.fargate.costs import estimate

        return replace(super().plan(spec, file, say), note=str(estimate(spec)))

    def hopeless(self, spec: ClusterSpec) -> Callable[[], Sequence[str]]:
        """Look, while services are waited for, which have tasks that can never start."""
        ecs, began = _ecs(spec), datetime.now(UTC)

        def lines() -> list[str]:
            with suppress(PerennialError):
                return [*_hopeless(spec, ecs, began)]
            return []

        return lines

    def down(self, name: str, purge: bool, say: Say) -> Removed:
        """Take a cluster down; say what stays."""
        spec = deployed(cluster_state(name))
        removed = super().down(name, purge, say)
        return Removed([*removed.notes, *kept(spec)], removed.uncleaned)

    def render(self, spec: ClusterSpec, form: str, root: Path) -> Rendered:
        """Render task definitions and services as ECS takes them."""
        from perennial.platforms.fargate.files import files

        return Rendered(files(spec), f"{root / 'README.txt'} says what to do with them")


def kept(spec: ClusterSpec) -> list[str]:
    """Say what a cluster that is taken down leaves in the account, one line each."""
    from perennial.aws.kept import logs

    options, found = spec.options, []
    notebooks = options.notebooks
    if notebooks is not None and notebooks.file_system is None and spec.jupyter is not None:
        found.append(
            f"notebooks stay in a file system of EFS in {options.region}, with the tag"
            f" perennial:cluster {spec.name}; `aws efs delete-file-system` removes it"
        )
    return [*found, *logs(spec.name, options)]


def _ecs(spec: ClusterSpec) -> Ecs:
    from perennial.aws.client import Aws
    from perennial.platforms.fargate.ecs import Ecs
    from perennial.platforms.fargate.parts import ecs_cluster

    return Ecs(Aws(spec.options.region, spec.options.profile), ecs_cluster(spec.name))


def _hopeless(spec: ClusterSpec, ecs: Ecs, began: datetime) -> Sequence[str]:
    """Say which services have had several tasks since then, none of which has started."""
    from perennial.platforms.fargate.parts import parts
    from perennial.platforms.fargate.troubles import of_task

    found = []
    keys = [part.key for part in parts(spec)]
    for key, service in ecs.services(keys).items():
        if service.running >= service.desired:
            continue
        stopped = [
            trouble
            for task in ecs.tasks(key, "STOPPED")
            if task.created is not None and task.created > began
            if (trouble := of_task(key, task)) is not None and trouble.is_wrong
        ]
        if len(stopped) >= HOPELESS:
            found.append(f"{spec.name}: {key}: {stopped[-1].text}")
    return found
