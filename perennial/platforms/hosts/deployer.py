"""The life of a cluster on machines over SSH: what a stack's deployer has to know of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from perennial.contracts import Rendered, Say
from perennial.errors import Fault
from perennial.paths import cluster_state
from perennial.spec import dump
from perennial.stacked import StackDeployer, deployed

if TYPE_CHECKING:
    from perennial.spec import ClusterSpec, Document


class HostsDeployer(StackDeployer):
    """Deploys on machines over SSH."""

    def faults(self, document: Document) -> tuple[list[Fault], list[Fault]]:
        """Refuse private keys in a file: they are for programs, which hand them over as secrets."""
        options = document.spec.options
        reaches = {"": options} | {f".machines[{i}]": m for i, m in enumerate(options.machines)}
        faults = [
            Fault(
                f"hosts{at}.private_key",
                "the text of a private key",
                "a key of a Pulumi program alone, where it is a secret",
                "write the path of a file that only you read as identity",
            )
            for at, reach in reaches.items()
            if reach.private_key is not None
        ]
        return faults, []

    def render(self, spec: ClusterSpec, form: str, _root: Path) -> Rendered:
        """Render a cluster on machines."""
        from perennial.platforms.hosts.files import files
        from perennial.templating import manager

        return Rendered(files(spec, manager(form)), "a folder for each machine")

    def log_in(self, name: str, spec: ClusterSpec | None = None) -> None:
        """Log in to the machines, for the engine's processes, which have no terminal."""
        from perennial import ssh
        from perennial.platforms.hosts.machine_services import services_by_machine

        spec = spec or deployed(cluster_state(name))
        ssh.log_in(assigned.target for assigned in services_by_machine(spec).values())

    def check_room(self, spec: ClusterSpec, force: bool, say: Say) -> None:
        """Ask the machines what they hold."""
        from perennial.platforms.hosts.operator import Operator
        from perennial.platforms.hosts.resizing import check_room

        paths = cluster_state(spec.name)
        there = paths.spec.exists()
        if there and paths.spec.read_text(encoding="utf-8") == dump(spec):
            return  # looked at when it was deployed: an unchanged `up` stays quick
        say("asking the machines what they hold")
        check_room(Operator(spec, paths), deployed(paths) if there else spec, force)
