"""What of dask-perennial runs in a cluster's pods, mounted: their images need Dask alone."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files

from perennial.platforms.kubernetes import names
from perennial.platforms.kubernetes.merging import Manifest
from perennial.platforms.kubernetes.options import PRELOADS

#: Folder in a container.
CODE = "/etc/dask-perennial/code"
#: What runs a module of it, see `perennial.platforms.kubernetes.start`.
START = f"{CODE}/start.py"
#: Modules beside the preloads: what these import, and what our commands run in pods and workers.
_MODULES = (
    *("__init__", "fetching", "pages", "tls", "unix", "isolated/__init__", "isolated/packages"),
    *("scaler/__init__", "scaler/dashboard_page", "scaler/timing"),
    "platforms/__init__",
    *(f"platforms/kubernetes/{name}" for name in ("__init__", "health", "page")),
)


@cache
def sources() -> dict[str, str]:
    """Return each file by its path in the folder."""
    ours = files("perennial")
    preloads = sorted(
        f"preloads/{each.name[:-3]}"
        for each in ours.joinpath("preloads").iterdir()
        if each.name.endswith(".py")
    )
    found = {
        f"perennial/{module}.py": ours.joinpath(f"{module}.py").read_text(encoding="utf-8")
        for module in (*_MODULES, *preloads)
    }
    start = ours.joinpath("platforms/kubernetes/start.py")
    return {"start.py": start.read_text(encoding="utf-8"), **found}


def config_map(cluster: str, namespace: str) -> Manifest:
    """Describe the ConfigMap. Pods of before keep theirs: a nanny starts workers from it."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name_of(cluster),
            "namespace": namespace,
            "labels": names.labels(cluster, PRELOADS, PRELOADS),
        },
        "immutable": True,
        "data": {_key(path): text for path, text in sources().items()},
    }


def name_of(cluster: str) -> str:
    """Name the ConfigMap by its content, so that pods are replaced when that changes."""
    whole = "\0".join(part for file in sources().items() for part in file)
    return names.name_of(cluster, f"{PRELOADS}-{hashlib.sha256(whole.encode()).hexdigest()[:7]}")


def volume(cluster: str, whole: bool) -> Manifest:
    """Describe the volume: all of it, or for an image with dask-perennial the start alone."""
    paths = sources() if whole else ("start.py",)
    items = [{"key": _key(path), "path": path} for path in paths]
    return {"configMap": {"name": name_of(cluster), "items": items}}


def _key(path: str) -> str:
    return path.removeprefix("perennial/").replace("/", "--")
