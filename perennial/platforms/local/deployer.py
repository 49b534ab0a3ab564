"""The life of a cluster on this machine, as the command line asks for it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from perennial import contracts
from perennial.connect import Connection, load
from perennial.connect.bundle import same_cluster
from perennial.contracts import Deployed, Observer, Removed, Rendered, Say
from perennial.errors import PerennialError
from perennial.paths import cluster_state
from perennial.placement import require_here
from perennial.plan import Plan

if TYPE_CHECKING:
    from perennial.errors import Fault
    from perennial.platforms.local.deploy import Deployment
    from perennial.spec import ClusterSpec, Document
    from perennial.state import Stack


class LocalDeployer(contracts.Deployer):
    """Deploys on this machine, under a supervisord."""

    cannot: ClassVar = {
        "forget": "{name} stands on this machine alone; `perennial down` takes it down"
    }

    def faults(self, document: Document) -> tuple[list[Fault], list[Fault]]:
        """Compare a cluster file with this machine."""
        from perennial.platforms.local.checks import faults_of_machine
        from perennial.supervision.single_instance import holder

        locks = cluster_state(document.spec.name).run.glob("*.lock")
        own = frozenset(holder(lock)[0] for lock in locks) - {0}
        return faults_of_machine(document.spec, own)

    def render(self, spec: ClusterSpec, form: str, root: Path) -> Rendered:
        """Render a cluster that has one machine, with what a person needs to know."""
        from perennial import eject
        from perennial.templating import manager

        python = spec.environment.python or sys.executable
        address, temporary = spec.options.address, spec.options.temporary_directory
        if form == "systemd":
            site = eject.systemd_site(spec, python, address, temporary)
        else:
            site = eject.folder_site(spec, str(root), str(Path.home()), python, address, temporary)
        files = eject.eject(spec, manager(form), site)
        return Rendered(files, f"{root / 'README.txt'} says what to do with them")

    def check_room(self, spec: ClusterSpec, force: bool, _say: Say) -> None:
        """Refuse members that this machine cannot hold."""
        from perennial.platforms.local.deploy import check_room

        check_room(spec, force=force)

    def plan(self, spec: ClusterSpec, file: str, say: Say) -> Plan:
        """Compare a cluster file with what runs."""
        from perennial.platforms.local.deploy import prepare

        return planned(prepare(spec, file, say))

    def up(self, spec: ClusterSpec, file: str, watched: Observer) -> Deployed:
        """Create or update a cluster."""
        from perennial.platforms.local import deploy

        deployment = deploy.prepare(spec, file, watched.say)
        paths, steps = deployment.paths, len(deployment.steps)
        token = deploy.token_file(spec, paths)
        new = spec.jupyter is not None and not token.exists()
        watched.planned(planned(deployment))
        connection = deploy.connection(spec, paths)
        if steps or deploy.secrets_missing(spec, paths):
            deploy.apply(deployment, ready=lambda: watched.ready(connection))
            for member, what in deployment.abandoned.items():
                watched.lost(member, what)
        else:
            deploy.settle(deployment)
        return Deployed(
            connection=connection,
            summary=f"{steps} changed" if steps else "",
            changed=bool(steps),
            workers=sum(deployment.state.sizes.values()),
            token=token if new else None,
        )

    def refresh(self, name: str, say: Say) -> Plan:
        """Compare the cluster file that was deployed with what runs."""
        from perennial.platforms.local.deploy import find

        return planned(find(name, say))

    def attach(self, spec: ClusterSpec, connection: Mapping[str, Any], stack: Stack) -> Connection:
        """Remember whose a cluster is that stands here; everything else is here already."""
        paths = cluster_state(spec.name)
        require_here(paths)
        if not (paths.spec.exists() and same_cluster(load(paths), connection)):
            raise PerennialError(
                f"{spec.name}: not the stack's cluster here; it stands where `pulumi up` ran: run"
                f" this there, or `perennial connect {spec.name} --export FILE` there and"
                " `perennial connect FILE` here"
            )
        stack.save(paths)
        return load(paths)

    def detach(self, name: str) -> None:
        """Remove what `attach` has written."""
        cluster_state(name).stack.unlink(missing_ok=True)

    def losses(self, name: str) -> str:
        """Count who is connected, what runs and what is in memory."""
        from perennial.platforms.local.deploy import find
        from perennial.spec.words import plural

        counts = find(name, lambda _text: None).cluster.dashboard.counts()
        if counts is None or not (counts.clients or counts.processing or counts.memory):
            return ""
        return (
            f"{name} has {plural(counts.clients, 'client')},"
            f" {plural(counts.processing, 'task')} running and {plural(counts.memory, 'result')}"
            " in memory, which are lost"
        )

    def down(self, name: str, purge: bool, say: Say) -> Removed:
        """Stop a cluster; notebooks stay."""
        from perennial.platforms.local.deploy import find
        from perennial.platforms.local.operate import take_down

        deployment = find(name, say)
        take_down(deployment, purge)
        notes, paths = [], deployment.paths
        if deployment.spec.jupyter is not None:
            notes.append(f"notebooks stay in {deployment.spec.jupyter.directory}")
        if purge:
            return Removed(notes)
        if paths.work.is_dir() and any(paths.work.iterdir()):
            notes.append(
                f"files that tasks wrote by relative paths stay in {paths.work};"
                " --purge removes them"
            )
        note = f"certificates, token and logs stay in {paths.root}; --purge removes them"
        return Removed([*notes, note])


def planned(deployment: Deployment) -> Plan:
    """Describe what is to be done, in what every platform's plans consist of."""
    from perennial.supervision.plan import steps

    changed = sum(step.action not in ("stop", "repair") for step in deployment.steps)
    return Plan(steps(deployment.steps), len(deployment.programs) - changed)
