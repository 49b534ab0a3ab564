"""A release that Helm itself has made, on a real node: adopted, asked by the commands, let go."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.homes import wait_until
from tests.labs.kubernetes.lab import IMAGE, Lab, cache
from tests.labs.kubernetes.node import with_node
from tests.labs.kubernetes.person import Person
from tests.labs.kubernetes.release import chart

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]

NAME = "dask"
#: What is Helm's, and what the commands say of it.
OWNED = {
    "down --force": "`perennial adopt helm dask --undo` removes the scaler",
    "refresh": "`helm get manifest`",
    "restart worker --force": "`kubectl rollout restart`",
    "scale big=3": "`helm upgrade` sizes a group",
    "rotate": "it has no certificates",
    "open dashboard --print": "`kubectl port-forward` opens its dashboard",
    "enable": "Kubernetes starts its pods",
}


class Helm:
    """Helm's own command line, with a chart of the shape of the real one."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.chart = lab, folder / "chart"
        program = cache() / "bin" / "helm"
        if not program.exists():
            pytest.skip("THE HELM TEST DID NOT RUN: no helm; run the lab's build once")
        self.program = program
        (self.chart / "templates").mkdir(parents=True)
        about = {"apiVersion": "v2", "name": "dask", "version": "2025.11.0"}
        (self.chart / "Chart.yaml").write_text(yaml.safe_dump(about))
        values = {"worker": {"replicas": 2}, "note": "a"}
        (self.chart / "values.yaml").write_text(yaml.safe_dump(values))
        made = chart(NAME, NAME, 2, big=1)
        for each in made[:-1]:
            pods = each["spec"]["template"]
            (container,) = pods["spec"]["containers"]
            module = container["args"][0].replace("-", "_")
            container |= {"image": IMAGE, "command": ["python", "-m", f"distributed.cli.{module}"]}
            container |= {"args": container["args"][1:]}
            container["resources"] = {"requests": {"cpu": "50m"}}
            pods["metadata"]["annotations"] = {"note": "NOTE"}
        text = "---\n".join(yaml.safe_dump(each) for each in made)
        text = text.replace("replicas: 2", "replicas: {{ .Values.worker.replicas }}")
        text = text.replace("note: NOTE", "note: fixed")
        (self.chart / "templates" / "all.yaml").write_text(text)
        self.environment = {
            **os.environ,
            "KUBECONFIG": str(lab.kubeconfig),
            **{f"HELM_{each}_HOME": str(folder / each) for each in ("CACHE", "CONFIG", "DATA")},
        }

    def __call__(self, *words: str) -> str:
        done = subprocess.run(
            [str(self.program), "-n", "helm", *words],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with with_node("helm") as lab:
        yield lab


def size(lab: Lab, deployment: str = "dask-worker") -> int:
    where = ("-n", "helm", "get", "deployment", deployment)
    return int(lab.kubectl(*where, "-o", "jsonpath={.spec.replicas}"))


def test_the_commands_work_on_a_release_of_helms(lab: Lab, tmp_path: Path) -> None:
    helm = Helm(lab, tmp_path)
    helm("install", NAME, str(helm.chart), "--wait", "--timeout", "4m")
    person = Person(tmp_path, {"name": "unused", "platform": "local", "workers": {"cpu": {}}})
    words = f"adopt helm {NAME} -n helm --scale worker=1:4 --image {IMAGE} --interval 2s --yes"
    said = person.run(*words.split())
    assert "`perennial status -c dask` shows it at work" in said
    lab.kubectl("-n", "helm", "rollout", "status", "deployment/dask-perennial", "--timeout=240s")

    assert "dask                 kubernetes up" in person.run("list")
    found = json.loads(person.run("status", "--json"))
    assert found["scheduler"]["workers"] == 3
    assert found["sizes"] == {"worker": 2, "big": 1}
    wait_until(lambda: json.loads(person.run("status", "--json"))["scaler"]["groups"], 180)
    assert "worker" in person.run("explain")
    assert "Registered to" in person.run("logs", "worker")
    assert "Scaler of dask on kubernetes" in person.run("logs", "scaler")

    # A person's size, and the scaler's again.
    assert "worker 2 → 3, pinned until" in person.run("scale", "worker=3")
    wait_until(lambda: size(lab) == 3, 60)
    assert "allowed: up to 4" in person.run("scale", "worker=9", code=1)
    assert "autoscaling is paused" in person.run("pause")
    assert "paused" in person.run("explain", "--json") or "paused" in person.run("status")
    assert "autoscaling is resumed" in person.run("resume")
    person.run("scale", "worker", "--auto")
    wait_until(lambda: "2 → 3" in person.run("history"), 60)
    said = person.run("doctor")
    assert "ok       rights: " in said
    assert "ok       scaler: has looked" in said

    for command, text in OWNED.items():
        said = person.run(*command.split(), code=1)
        assert f"dask: Helm owns this release; {text}" in said, said

    # An upgrade of Helm's own resets the size that somebody has pinned, and it comes back.
    person.run("scale", "worker=4")
    wait_until(lambda: size(lab) == 4, 60)
    said = person.run(*f"adopt helm {NAME} -n helm --values".split())
    (line,) = [each for each in said.splitlines() if each.startswith("--set ")]
    helm("upgrade", NAME, str(helm.chart), *line.split(), "--wait", "--timeout", "4m")
    assert size(lab) == 4
    helm("upgrade", NAME, str(helm.chart), "--set", "worker.replicas=2")
    assert size(lab) in (2, 4)
    wait_until(lambda: size(lab) == 4, 120)

    # Undo: as it was, and known no more.
    person.run(*f"adopt helm {NAME} -n helm --undo --yes".split())
    assert size(lab) == 2
    assert "no clusters" in person.run("list")
    time.sleep(1)
    helm("upgrade", NAME, str(helm.chart), "--wait", "--timeout", "4m")
    helm("uninstall", NAME, "--wait")
