"""The life of a cluster on Kubernetes: what a stack's deployer has to know of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from perennial import connect
from perennial.contracts import Deployed, Observer, Removed, Rendered, Say
from perennial.errors import Fault, FleetError, PerennialError
from perennial.paths import cluster_state
from perennial.stacked import StackDeployer, deployed

if TYPE_CHECKING:
    from perennial.plan import Plan
    from perennial.platforms.kubernetes.runtime import KubernetesRuntime
    from perennial.spec import ClusterSpec, Document


class KubernetesDeployer(StackDeployer):
    """Deploys with pulumi-kubernetes, by the caller's own kubeconfig."""

    cannot: ClassVar = {
        "forget": "{name}: Kubernetes replaces the pods of a lost node by itself",
    }

    def require(self, verb: str, name: str) -> None:
        """Refuse what is Helm's as well: an adopted release is nobody else's to deploy."""
        from perennial.platforms.kubernetes.chart.standing import Adopted, refusal

        if name and Adopted.load(name) is not None:
            raise PerennialError(refusal(verb, name))
        super().require(verb, name)

    def check_room(self, spec: ClusterSpec, force: bool, say: Say) -> None:
        """Ask the API server whether the caller may do all of it; who has room, it says later."""
        from perennial.platforms.kubernetes.access import check, refuse_strangers
        from perennial.platforms.kubernetes.identity import own_server

        say("asking the API server for the namespace and your rights")
        api = own_server(spec.name, spec.options.namespace)
        check(spec, api)
        if not cluster_state(spec.name).spec.exists():
            refuse_strangers(spec, api)

    def up(self, spec: ClusterSpec, file: str, watched: Observer) -> Deployed:
        """Deploy a cluster; where pods are not ready in time, say what they wait for."""
        try:
            return self._from_outside(spec, super().up(spec, file, watched))
        except FleetError as error:
            lines = str(error).splitlines()
            with suppress(PerennialError):
                waits = [*self._running(spec.name).waits()]
                lines += [each for each in waits if _told(each) not in str(error)]
            raise FleetError("\n".join(lines)) from None

    def hopeless(self, spec: ClusterSpec) -> Callable[[], Sequence[str]]:
        """Look at the pods, and have Kubernetes try again what has failed before."""
        from perennial.platforms.kubernetes import identity
        from perennial.platforms.kubernetes.rollout import Rollout

        running = self._running(spec.name)
        rollout = Rollout(spec, running)
        with suppress(PerennialError):
            # From now on something may stand there.
            identity.remember(spec.name, running.api, spec.options.namespace)
            rollout.retry()
        return rollout.hopeless

    def _from_outside(self, spec: ClusterSpec, done: Deployed) -> Deployed:
        """Have clients here use the load balancer's address, where the cluster has one."""
        if spec.options.scheduler.service.type != "LoadBalancer":
            return done
        address = self._running(spec.name).balancer()
        if not address:
            return done
        connection = replace(done.connection, scheduler_address=address)
        connect.save(cluster_state(spec.name), connection)
        return replace(done, connection=connection)

    def _running(self, name: str) -> KubernetesRuntime:
        from perennial.platforms.kubernetes.runtime import KubernetesRuntime

        running: Any = KubernetesRuntime  # its other commands are in `cannot`
        made: KubernetesRuntime = running(self.platform, name)
        return made

    def down(self, name: str, purge: bool, say: Say) -> Removed:
        """Take a cluster down; say which volume stays."""
        from perennial.platforms.kubernetes import identity

        spec = deployed(cluster_state(name))
        identity.own_server(name, spec.options.namespace)
        removed = super().down(name, purge, say)
        identity.path(name).unlink(missing_ok=True)
        if claim := _notebooks(spec):
            note = f"notebooks stay in the claim {claim}; `kubectl delete` removes it"
            return Removed([*removed.notes, note], removed.uncleaned)
        return removed

    def refresh(self, name: str, say: Say) -> Plan:
        """Look what became of the resources; on another API server none would be left."""
        from perennial.platforms.kubernetes.identity import own_server

        own_server(name, deployed(cluster_state(name)).options.namespace)
        return super().refresh(name, say)

    def render(self, spec: ClusterSpec, form: str, root: Path) -> Rendered:
        """Render manifests and a kustomization."""
        from perennial.platforms.kubernetes.files import files

        return Rendered(files(spec), f"{root / 'README.txt'} says what to do with them")

    def faults(self, document: Document) -> tuple[list[Fault], list[Fault]]:
        """Warn of pods that the Pod Security level Restricted refuses."""
        from perennial.platforms.kubernetes.parts import parts
        from perennial.platforms.kubernetes.pods import template
        from perennial.platforms.kubernetes.restricted import violations

        spec = document.spec
        warnings = []
        for part in parts(spec):
            if found := violations(template(spec, part)["spec"]):
                warnings.append(
                    Fault(
                        "kubernetes",
                        f"pods of {part.key} with {'; '.join(found)}",
                        "what the Pod Security level Restricted takes",
                        "remove it from extra_pod_spec and volumes, or let the namespace allow it",
                    )
                )
        return [], warnings


def _told(line: str) -> str:
    """Return what is wrong in a line that names a part that waits."""
    return line.partition(" waits: ")[2]


def _notebooks(spec: ClusterSpec) -> str:
    """Name the claim that was made for notebooks; empty for none."""
    from perennial.platforms.kubernetes.names import name_of

    storage = spec.options.jupyter.storage
    own = spec.jupyter is not None and storage is not None and storage.claim is None
    return f"{spec.options.namespace}/{name_of(spec.name, 'jupyter')}" if own else ""
