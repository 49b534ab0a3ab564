"""``python -m tests.labs.kubernetes.build``: fills the cache of the lab; half an hour once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.labs.kubernetes.lab import HERE, IMAGE, cache
from tests.labs.pulumi import kubernetes_provider

FILES = ("get.sh", "lab.sh", "mkimage.py", "netpol.py", "coredns.yaml")
ROOT = HERE.parents[2]
PACKAGES = "usr/local/lib/python3.11/dist-packages"
#: Packages of our image.
INSTALLED = (
    *("distributed", "dask", "kubernetes", "pydantic", "typer", "psutil", "cryptography"),
    *("jinja2", "packaging", "supervisor", "rich", "prometheus-client"),
)
#: Target → what it leaves.
TARGETS = {
    "debs": "root/usr/bin/etcd",
    "kube": "bin/kubectl",
    "coredns": "bin/coredns",
    "helm": "bin/helm",
    "images": "build/rootfs.tar",
}


def refresh(root: Path) -> None:
    """Copy the lab's own files there, and make the image of this checkout."""
    root.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copy(HERE / name, root / name)
    build = root / "build"
    install(build)
    for folder in ("wheel", "ours"):
        shutil.rmtree(build / folder, ignore_errors=True)
    pip = [sys.executable, "-m", "pip"]
    usual = ("--quiet", "--no-deps")
    own = ("--no-build-isolation", "--wheel-dir", str(build / "wheel"))
    subprocess.run([*pip, "wheel", *usual, *own, str(ROOT)], check=True)
    (wheel,) = (build / "wheel").glob("*.whl")
    target = ("--target", str(build / "ours" / PACKAGES))
    subprocess.run([*pip, "install", *usual, *target, str(wheel)], check=True)
    subprocess.run(
        [
            *(sys.executable, str(root / "mkimage.py"), str(root / "img" / "dask.oci.tar"), IMAGE),
            *("rootfs.tar", "packages", "ours", "--", "/usr/bin/python3"),
        ],
        cwd=build,
        env={**os.environ, "USER_": "10001:10001", "WORKDIR_": "/tmp", "ENV_": "HOME=/tmp"},
        check=True,
    )


def install(build: Path) -> None:
    """Install what our image has beside this checkout, in the versions that are locked."""
    packages, stamp = build / "packages", build / "packages.txt"
    if stamp.exists() and stamp.read_text().split() == [*INSTALLED]:
        return
    locked = subprocess.run(
        [sys.executable, "-m", "pip", "freeze", "--exclude-editable"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    constraints = build / "constraints.txt"
    constraints.write_text(locked)
    shutil.rmtree(packages, ignore_errors=True)
    target = ("--target", str(packages / PACKAGES), "--constraint", str(constraints))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", *target]
    subprocess.run([*pip, *INSTALLED], check=True)
    programs = packages / "usr" / "local" / "bin"
    programs.mkdir(parents=True)
    (programs / "python").symlink_to("/usr/bin/python3")
    stamp.write_text(" ".join(INSTALLED))


def main() -> None:
    """Build what is missing."""
    root = cache()
    root.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copy(HERE / name, root / name)
    for target, leaves in TARGETS.items():
        if not (root / leaves).exists():
            env = {**os.environ, "LAB": str(root)}
            subprocess.run(["bash", str(root / "get.sh"), target], env=env, check=True)
    refresh(root)
    kubernetes_provider(build=True)


if __name__ == "__main__":
    main()
