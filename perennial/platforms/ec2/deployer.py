"""The life of a cluster on EC2: what a stack's deployer has to know of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from perennial.contracts import Removed, Rendered, Say
from perennial.paths import cluster_state
from perennial.plan import Plan
from perennial.stacked import StackDeployer, deployed

if TYPE_CHECKING:
    from perennial.spec import ClusterSpec


class Ec2Deployer(StackDeployer):
    """Deploys with pulumi-aws, by the caller's own credentials."""

    cannot: ClassVar = {
        "forget": "{name}: Auto Scaling replaces a lost instance by itself",
    }

    def check_room(self, spec: ClusterSpec, force: bool, say: Say) -> None:
        """Ask AWS for the network, the images, the types of instances and the quotas."""
        from perennial.aws.checks import refuse_strangers
        from perennial.aws.client import Aws
        from perennial.platforms.ec2.checks import check, check_quotas

        say("asking AWS for the network, images and types of instances")
        aws, paths = Aws(spec.options.region, spec.options.profile), cluster_state(spec.name)
        check(spec, aws)
        before = deployed(paths) if paths.spec.exists() else None
        if before is None:
            refuse_strangers(spec.name, aws)
        if not force:
            check_quotas(spec, before, aws)

    def plan(self, spec: ClusterSpec, file: str, say: Say) -> Plan:
        """Ask the engine what it would do; say what a month costs."""
        from perennial.platforms.ec2.costs import estimate

        return replace(super().plan(spec, file, say), note=str(estimate(spec)))

    def down(self, name: str, purge: bool, say: Say) -> Removed:
        """Take a cluster down; say what stays."""
        spec = deployed(cluster_state(name))
        removed = super().down(name, purge, say)
        return Removed([*removed.notes, *kept(spec)], removed.uncleaned)

    def render(self, spec: ClusterSpec, form: str, root: Path) -> Rendered:
        """Render what instances run: user data, units and configuration."""
        from perennial.platforms.ec2 import bundle, parts

        files: dict[str, str] = {}
        named = {"volume": "VOLUME", "zone": "ZONE", "role": "ROLE", "export": "EXPORT"}
        for machine in parts.machines(spec):
            made = bundle.bundle(spec, machine)
            told = bundle.settings(spec, machine, named)
            key = machine.key
            files[f"{key}/user-data"] = bundle.user_data(spec, machine, "BUCKET", made.digest, told)
            files[f"{key}/bundle.json"] = _written(bundle.facts(spec, machine))
            for path, text in bundle.files(spec, machine).items():
                files[f"{key}{path}"] = text
        return Rendered(files, f"{root} has what each instance runs; `perennial up` deploys it")


def _written(value: object) -> str:
    return json.dumps(value, indent=2, sort_keys=True) + "\n"


def kept(spec: ClusterSpec) -> list[str]:
    """Say what a cluster that is taken down leaves in the account, one line each."""
    from perennial.aws.kept import logs

    options, found = spec.options, []
    own = options.scheduler
    if own.volume_id is not None:
        found.append(f"notebooks stay on the volume {own.volume_id}")
    elif own.keep_volume:
        tags = f"Name=tag:perennial:cluster,Values={spec.name}"
        listed = f"`aws ec2 describe-volumes --filters {tags}`"
        found.append(
            f"notebooks stay on the scheduler's volume; {listed} lists it, and"
            " ec2.scheduler.volume_id gives it to the next cluster"
        )
    if options.notebooks is not None and options.notebooks.file_system is None:
        found.append("notebooks stay in the file system of EFS; the console of AWS removes it")
    return [*found, *logs(spec.name, options)]
