"""The manifests of a cluster as files, with a kustomization and what to do with them. Pure."""

from __future__ import annotations

import shlex
from functools import cache
from importlib import resources
from typing import Any

import yaml

from perennial.platforms.kubernetes import names
from perennial.platforms.kubernetes.manifests import manifests
from perennial.platforms.kubernetes.merging import Manifest
from perennial.platforms.kubernetes.parts import site
from perennial.services import scheduler_address
from perennial.spec import ClusterSpec
from perennial.templating import make_environment

FOLDER = "manifests"
#: Folder of the recipe for images.
RECIPE = "container"


#: The quick one where PyYAML has it; both write the same.
_Base: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _Dumper(_Base):  # type: ignore[misc]  # whichever of the two
    """Writes texts of several lines as a person reads them, and each value where it stands."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def files(spec: ClusterSpec) -> dict[str, str]:
    """Render a cluster: manifests, a kustomization, and a README that says what to do."""
    found = manifests(spec)
    rendered = {f"{FOLDER}/{part}.yaml": written(objects) for part, objects in found.items()}
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": list(rendered),
    }
    readme = make_environment("perennial.templates", {"shell": shlex.quote})
    recipe = {f"{RECIPE}/{name}": text for name, text in _recipe().items()}
    return rendered | {
        **recipe,
        "kustomization.yaml": written([kustomization]),
        "README.txt": readme.get_template("kubernetes-README.txt.j2").render(
            cluster=spec.name,
            namespace=spec.options.namespace,
            scheduler=names.name_of(spec.name, "scheduler"),
            address=scheduler_address(spec, site(spec)),
            deployments={group: names.name_of(spec.name, group) for group in spec.workers},
            scaled=spec.scaled,
            counts={group: each.count for group, each in spec.workers.items()},
            client=names.client_label(spec.name),
            dashboard=spec.scheduler.dashboard_port,
            jupyter=names.name_of(spec.name, "jupyter") if spec.jupyter is not None else None,
            jupyter_port=spec.jupyter.port if spec.jupyter is not None else None,
        ),
    }


@cache
def _recipe() -> dict[str, str]:
    """Read the recipe for images, which is the same for every cluster."""
    folder = resources.files("perennial.templates") / RECIPE
    return {
        each.name: each.read_text(encoding="utf-8")
        for each in sorted(folder.iterdir(), key=lambda each: each.name)
    }


def written(objects: list[Manifest]) -> str:
    """Write objects as a stream of YAML documents."""
    return "---\n".join(
        yaml.dump(each, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=4096)
        for each in objects
    )
