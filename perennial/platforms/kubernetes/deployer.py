"""The life of a cluster on Kubernetes; so far its files, and who makes them stand is kubectl."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from perennial import contracts
from perennial.contracts import Rendered
from perennial.errors import Fault

if TYPE_CHECKING:
    from perennial.spec import ClusterSpec, Document

_APPLY = (
    "{name}: the platform kubernetes has no component for Pulumi yet; `perennial render` writes"
    " manifests, and `kubectl {verb} -k` "
)


class KubernetesDeployer(contracts.Deployer):
    """Renders; everything else is kubectl's until there is a component."""

    cannot: ClassVar = {
        "plan": _APPLY.replace("{verb}", "diff") + "shows what would change",
        "up": _APPLY.replace("{verb}", "apply") + "makes them stand",
        "refresh": _APPLY.replace("{verb}", "diff") + "shows what is not as they say",
        "down": _APPLY.replace("{verb}", "delete") + "takes them down",
        "forget": "{name}: Kubernetes replaces the pods of a lost node by itself",
    }

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
