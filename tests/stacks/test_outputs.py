"""Components whose addresses, users and memory only the deployment knows; machines are folders."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.labs.pulumi import settings

if TYPE_CHECKING:
    from tests.stacks.conftest import Site

pytestmark = pytest.mark.lab

WHOLE = ["environment", "services"]

#: Resource → what is done to it, and the paths of what changed.
Steps = dict[str, tuple[str, list[str]]]

PROGRAM = """
import json, sys
from pathlib import Path
import pulumi
from pulumi import automation
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider
from perennial.stacks.hosts import HostsCluster

class Machine(ResourceProvider):
    def create(self, props):
        return CreateResult(props["host"], {**props, "address": props["host"]})
    def diff(self, id, old, new):
        return DiffResult(changes=old["host"] != new["host"], replaces=["host"])

class Vm(Resource):
    address: pulumi.Output[str]
    def __init__(self, name, host):
        super().__init__(Machine(), name, {"host": host, "address": None})

told = json.loads(Path(sys.argv[1]).read_text())

def program():
    for name, hosts in told["clusters"].items():
        machines = [
            {"name": f"w{i}", "address": Vm(f"{name}-vm{i}", host).address}
            for i, host in enumerate(hosts)
        ]
        cpu = {"count": len(hosts) - 1, "memory": pulumi.Output.from_input(told["memory"])}
        args = {
            "name": name,
            "environment": {"python": "/opt/dask/bin/python"},
            "workers": {"cpu": cpu},
            "env": {"TOKEN": pulumi.Output.secret(told["secret"])},
            "dask": {"distributed.comm.retry.count": None},
            "hosts": {"machines": machines},
        }
        made = HostsCluster(name, args)
        pulumi.export(f"{name}_address", made.scheduler_address)
        pulumi.export(f"{name}_fleets", made.fleets)

project = automation.ProjectSettings("p", "python")
options = automation.LocalWorkspaceOptions(work_dir=".", project_settings=project)
stack = automation.create_or_select_stack("s", "p", program=program, opts=options)
found = []
def hear(event):
    step = event.resource_pre_event and event.resource_pre_event.metadata
    if step and not step.type.startswith("pulumi:"):
        changed = sorted(step.detailed_diff or {})
        found.append([step.op.value, step.urn.rpartition("::")[2], changed])
    if event.diagnostic_event and event.diagnostic_event.severity == "error":
        print(event.diagnostic_event.message, file=sys.stderr)
getattr(stack, sys.argv[2])(on_event=hear)
outputs = {} if sys.argv[2] == "preview" else stack.outputs()
outputs = {name: output.value for name, output in outputs.items()}
print(json.dumps({"steps": found, "outputs": outputs}))
"""


class Project:
    """A Pulumi program of somebody's own."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.file = site.root / "told.json"
        self.told: dict[str, Any] = {
            "clusters": {"lab": ["ma", "mb"], "gpu": ["mc", "md"]},
            "memory": "512 MiB",
            "secret": "precious",
        }

    def run(
        self, do: str, code: int = 0
    ) -> tuple[dict[str, tuple[str, list[str]]], dict[str, Any]]:
        """Run the program; return what was done to each resource, and the outputs."""
        self.file.write_text(json.dumps(self.told))
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(self.file), do],
            env={
                **self.site.environment,
                "PATH": f"{Path(sys.executable).parent}:{self.site.environment['PATH']}",
                **settings(self.site.root),
            },
            cwd=self.site.root,
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stderr[-3000:]
        said = json.loads(done.stdout.splitlines()[-1]) if not code else {"steps": []}
        steps = {name: (op, keys) for op, name, keys in said["steps"] if op != "same"}
        return steps, said.get("outputs", {})


@pytest.fixture
def project(site: Site) -> Project:
    return Project(site)


def children(cluster: str) -> set[str]:
    machines = [f"{cluster}-w{i}-{kind}" for i in (0, 1) for kind in WHOLE]
    return {cluster, f"{cluster}-authority", *machines}


@pytest.mark.timeout(600)
def test_machines_of_the_same_program(project: Project) -> None:
    every = children("lab") | children("gpu")
    vms = {f"{cluster}-vm{i}" for cluster in ("lab", "gpu") for i in (0, 1)}
    steps, _ = project.run("preview")
    assert {name: op for name, (op, _) in steps.items()} == dict.fromkeys(every | vms, "create")

    _, outputs = project.run("up")
    assert outputs["lab_address"] == "tls://ma:8786"
    assert outputs["gpu_fleets"] == {"cpu": {"members": ["cpu-w1-0"]}}
    assert project.site.machines() == dict.fromkeys(("ma", "mb", "mc", "md"), WHOLE)
    states = [file for file in project.site.root.rglob("*.json*") if ".pulumi" in file.parts]
    assert states
    assert not [file for file in states if "precious" in file.read_text(errors="replace")]
    assert project.run("up")[0] == {}

    project.told["memory"] = "600 MiB"
    changed = ["cluster.workers.cpu.memory"]
    assert project.run("preview")[0] == {
        f"{cluster}-w1-services": ("update", changed) for cluster in ("lab", "gpu")
    }
    project.run("up")

    # Another machine in the place of one: its services move, and the cluster stays.
    project.told["clusters"]["gpu"][1] = "me"
    steps, _ = project.run("preview")
    kept = {name: op for name, (op, _) in steps.items() if "vm" not in name}
    assert kept == {f"gpu-w1-{kind}": "update" for kind in WHOLE}
    project.run("up")
    assert project.site.machines()["me"] == WHOLE

    project.run("destroy")
    assert [name for name in project.site.machines() if name != "md"] == []


def test_a_machine_that_does_not_answer_keeps_no_other_from_being_deployed(
    project: Project,
) -> None:
    """As the engine is run by `pulumi up`, which begins nothing new after a failure."""
    (project.site.root / "broken").write_text("md")
    project.run("up", code=1)
    whole = dict.fromkeys(("ma", "mb", "mc"), WHOLE)
    assert project.site.machines() == whole
    project.told["memory"] = "600 MiB"
    (project.site.root / "broken").write_text("mb")
    project.run("up", code=1)
    assert project.site.machines() == {**whole, "md": WHOLE}
    (project.site.root / "broken").unlink()
    assert set(project.run("up")[0]) == {"lab-w1-services"}


def test_what_a_deployment_knows_first_is_refused_then(project: Project) -> None:
    project.told["memory"] = "512 XB"
    project.run("up", code=1)
    assert "ma" not in project.site.machines() or project.site.machines().get("mb") != WHOLE
