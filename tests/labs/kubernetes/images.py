"""More images of the lab, made when a test asks for them: of Dask alone, and with JupyterLab."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.labs.kubernetes.build import PACKAGES
from tests.labs.kubernetes.lab import Lab

#: What each has: names for pip. What stock images have of Dask, and nothing of ours.
STOCK = ("distributed", "dask", "bokeh", "prometheus_client")
OLDER = ("distributed==2025.11.0", "dask==2025.11.0")
JUPYTER = (*STOCK, "jupyterlab")


def load(lab: Lab, name: str, *packages: str) -> str:
    """Make an image where it is missing, and bring it to the node; return its name."""
    title = f"lab.local/{name}:1"
    archive = lab.root / "more" / f"{name}.oci.tar"
    if not archive.exists():
        _make(lab.root / "build", archive, title, packages)
    bring(lab, archive)
    return title


def bring(lab: Lab, archive: Path) -> None:
    """Bring an image to the node."""
    ctr = str(lab.root / "root" / "usr" / "bin" / "ctr")
    words = lab.command("n1", ctr, "-n", "k8s.io", "images", "import", str(archive))
    subprocess.run(words, env=lab.environment, capture_output=True, timeout=300, check=True)


def _make(build: Path, archive: Path, title: str, packages: tuple[str, ...]) -> None:
    archive.parent.mkdir(exist_ok=True)
    layer = build / archive.name.removesuffix(".oci.tar")
    shutil.rmtree(layer, ignore_errors=True)
    freeze = [sys.executable, "-m", "pip", "freeze", "--exclude-editable"]
    locked = subprocess.run(freeze, capture_output=True, text=True, check=True).stdout
    constraints = build / f"{layer.name}.txt"
    pinned = {package.partition("==")[0] for package in packages if "==" in package}
    kept = (line for line in locked.splitlines() if line.partition("==")[0] not in pinned)
    constraints.write_text("\n".join(kept))
    target = ("--target", str(layer / PACKAGES), "--constraint", str(constraints))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", *target]
    subprocess.run([*pip, *packages], timeout=900, check=True)
    programs = layer / "usr" / "local" / "bin"
    programs.mkdir(parents=True)
    (programs / "python").symlink_to("/usr/bin/python3")
    part = archive.with_suffix(".part")
    subprocess.run(
        [
            *(sys.executable, str(build.parent / "mkimage.py"), str(part), title),
            *("rootfs.tar", layer.name, "--", "/usr/bin/python3"),
        ],
        cwd=build,
        env={**os.environ, "USER_": "10001:10001", "WORKDIR_": "/tmp", "ENV_": "HOME=/tmp"},
        timeout=300,
        check=True,
    )
    part.rename(archive)
