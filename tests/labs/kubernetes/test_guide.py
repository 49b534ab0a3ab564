"""The guide to Kubernetes, followed word for word, with kubectl and a kubeconfig.

Left out are the commands that made this environment: pip, and Pulumi's plugin, which the lab has
built. The image has the name of the guide's, and no JupyterLab; memory is what the lab's node has.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.labs.hosts.base import CHECKOUT
from tests.labs.kubernetes.lab import IMAGE, Lab
from tests.labs.kubernetes.node import with_node
from tests.labs.kubernetes.person import Person

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]

GUIDE = (CHECKOUT / "docs" / "guide" / "kubernetes.md").read_text()
#: Commands that made the environment of this test.
MADE = ("pip install", "pulumi plugin install")
#: What the lab has not, or not as much of: what stands in the guide's file, and here.
SMALLER = {
    "{threads: 2, memory: 8 GiB, scale": "{threads: 1, memory: 1 GiB, scale",
    "kubernetes:\n": "scheduler: {memory: 1 GiB}\njupyter: null\nkubernetes:\n",
}
CODE = """
from distributed import Client
with Client(timeout=60) as client:
    print(client.submit(sum, [1, 2, 3]).result())
"""


def section(title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)^## ", GUIDE, re.M | re.S)
    assert found, title
    return found[1]


def commands(title: str) -> list[str]:
    """List what a reader types."""
    typed = re.findall(r"^\$ (.+)$", section(title), re.M)
    return [each for each in typed if not each.startswith(MADE)]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A node with an image of the guide's name."""
    with with_node() as lab:
        (name,) = re.findall(r"^  image: (.+)$", section("Start it"), re.M)
        ctr = str(lab.root / "root" / "usr" / "bin" / "ctr")
        lab.inside("n1", ctr, "-n", "k8s.io", "images", "tag", IMAGE, name)
        yield lab


class Reader(Person):
    """Somebody who types what the guide says, and agrees to the plan."""

    def types(self, command: str) -> str:
        # A terminal, since `up` asks whether to go on.
        done = subprocess.run(
            ["script", "-qec", command, "/dev/null"],
            cwd=self.home,
            env=self.environment,
            input="y\n",
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    def computes(self) -> str:
        """Use the cluster by a plain client."""
        kept = {key: text for key, text in self.environment.items() if key[:5] != "DASK_"}
        words = [sys.executable, "-c", CODE]
        done = subprocess.run(words, env=kept, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


def test_the_guide_is_followed_word_for_word(lab: Lab, tmp_path: Path) -> None:
    reader = Reader(tmp_path, {})
    reader.environment["KUBECONFIG"] = str(lab.kubeconfig)
    reader.environment["PATH"] = f"{lab.root / 'bin'}:{reader.environment['PATH']}"
    [text] = re.findall(r"^```yaml\n(.*?)^```$", section("Start it"), re.M | re.S)
    for wide, small in SMALLER.items():
        assert text.count(wide) == 1
        text = text.replace(wide, small)
    (tmp_path / "cluster.yaml").write_text(text)

    said = {command: reader.types(command) for command in commands("Start it")}
    assert list(said) == [
        "kubectl create namespace dask",
        "perennial plan -f cluster.yaml",
        "perennial up -f cluster.yaml",
    ]
    assert "+ create" in said["perennial plan -f cluster.yaml"]
    assert "lab is up" in said["perennial up -f cluster.yaml"]
    for command in ("list", "status", "logs cpu"):  # which the guide says know the cluster
        assert "lab" in reader.types(f"perennial {command}")
    [connect] = commands("From outside the cluster")
    assert "port-forward by the context lab (8786" in reader.types(connect)
    assert reader.computes() == "6"
    reader.types("perennial down --force")

    # The other way: its own namespace, and the same file.
    lab.kubectl("delete", "namespace", "dask", "--wait")
    Path(reader.environment["XDG_STATE_HOME"]).rename(tmp_path / "before")
    for command in commands("With kubectl alone"):
        reader.types(command)
    for part in ("scheduler", "cpu", "scaler"):
        where = ("-n", "dask", "rollout", "status", f"deployment/lab-{part}")
        lab.kubectl(*where, "--timeout=170s")
    assert "1 worker" in reader.types("perennial status")
    reader.types(connect)
    assert reader.computes() == "6"
    reader.types("perennial disconnect")
    assert os.path.exists(tmp_path / "lab" / "kustomization.yaml")
