"""A real control plane, and nodes where a test wants them; see ``lab.sh``."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).parent
BUILD = "python -m tests.labs.kubernetes.build"
#: Image of this checkout, with what it needs.
IMAGE = "lab.local/dask-perennial:1"
#: What a build leaves in the cache.
NEEDED = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")


def cache() -> Path:
    """Folder of the builds, outside the checkout."""
    usual = Path.home() / ".cache" / "perennial-labs"
    return Path(os.environ.get("PERENNIAL_LAB_CACHE", usual)) / "kubernetes"


@dataclass(frozen=True, slots=True)
class Lab:
    """A cluster that stands."""

    root: Path

    def join(self, node: str) -> None:
        """Add a node, and names for Services."""
        script = ["bash", str(self.root / "lab.sh"), "node", node]
        # What runs on in the background holds its output open.
        subprocess.run(
            script, env=self.environment, stdout=subprocess.DEVNULL, timeout=120, check=True
        )
        self.kubectl("apply", "-f", str(self.root / "coredns.yaml"))
        self.kubectl("wait", "--for=create", "--timeout=90s", f"node/{node}")
        self.kubectl("wait", "--for=condition=Ready", "--timeout=90s", f"node/{node}")

    @property
    def kubeconfig(self) -> Path:
        """Configuration of its administrator."""
        return self.root / "etc" / "admin.conf"

    def kubectl(self, *words: str, text: str | None = None) -> str:
        """Run kubectl as the administrator; return what it prints."""
        done = subprocess.run(
            [str(self.root / "bin" / "kubectl"), *words],
            input=text,
            capture_output=True,
            text=True,
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig)},
            timeout=600,  # eleven pods that start at once on two busy processors
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def tried(self, *words: str) -> str:
        """Run kubectl as the administrator; return what it prints, also where it fails."""
        done = subprocess.run(
            [str(self.root / "bin" / "kubectl"), "--kubeconfig", str(self.kubeconfig), *words],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.stdout + done.stderr

    def inside(self, machine: str, *words: str) -> None:
        """Run a command inside a machine."""
        subprocess.run(self.command(machine, *words), env=self.environment, timeout=60, check=True)

    def begin(self, machine: str, *words: str) -> None:
        """Start a program inside a machine; it ends with the machine."""
        with (self.root / "log" / f"{Path(words[0]).name}.log").open("a") as log:
            subprocess.Popen(
                self.command(machine, *words),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def command(self, machine: str, *words: str) -> list[str]:
        """Give the words that run a command inside a machine."""
        return ["bash", str(self.root / "lab.sh"), "in", machine, *words]

    @property
    def environment(self) -> dict[str, str]:
        """Variables that these words need."""
        return {**os.environ, "LAB": str(self.root)}


def lacking() -> list[str]:
    """Name what was not built yet."""
    found = [name for name in NEEDED if not (cache() / "bin" / name).exists()]
    etcd = cache() / "root" / "usr" / "bin" / "etcd"
    return found if etcd.exists() else [*found, "etcd"]


@contextmanager
def running() -> Iterator[Lab]:
    """Start a control plane and stop it; skip where it was not built."""
    root, missing = cache(), lacking()
    if missing or os.geteuid() != 0:
        why = f"without {', '.join(missing)} in {root}" if missing else "without root"
        pytest.skip(f"THE KUBERNETES LAB DID NOT RUN: {why}; run `{BUILD}` once (half an hour)")
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # its namespaces and links have fixed names
        yield from _running(root)


def _running(root: Path) -> Iterator[Lab]:
    shutil.copy(HERE / "lab.sh", root / "lab.sh")
    script = ["bash", str(root / "lab.sh")]
    env = {**os.environ, "LAB": str(root)}
    subprocess.run([*script, "down"], env=env, capture_output=True, timeout=120, check=False)
    before = os.environ.get("KUBECONFIG")
    lab = Lab(root)
    try:
        subprocess.run([*script, "up"], env=env, capture_output=True, timeout=180, check=True)
        os.environ["KUBECONFIG"] = str(lab.kubeconfig)
        yield lab
    finally:
        if before is None:
            os.environ.pop("KUBECONFIG", None)
        else:
            os.environ["KUBECONFIG"] = before
        subprocess.run([*script, "down"], env=env, capture_output=True, timeout=120, check=False)
