"""A Pulumi project with one `KubernetesCluster`: the real engine and pulumi-kubernetes."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.homes import run
from tests.labs.hosts.base import UnavailableError
from tests.labs.pulumi import engine, kubernetes_provider, settings

#: Reads what to do from a file, does it, and prints what was changed, and why it failed.
PROGRAM = """
import json, sys
import pulumi
from pulumi import automation
from pulumi.automation import events
from perennial.stacks.kubernetes import KubernetesCluster
from perennial.stacks.resources import Authority, Certificate

wish = json.loads(sys.argv[2])

class Recorded(pulumi.ComponentResource):
    # A cluster as an earlier version has registered it.

    def __init__(self, name, resources, opts):
        super().__init__(KubernetesCluster.component_type, name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        for each in resources:
            kind, inputs = each["type"], each["inputs"]
            if kind == Authority.kind.type:
                authority = Authority(each["name"], inputs, opts=child)
            elif kind == Certificate.kind.type:
                keys = {"ca": authority.ca, "ca_key": authority.ca_key}
                Certificate(each["name"], {**inputs, **keys}, opts=child)
            else:
                pulumi.CustomResource(kind, each["name"], inputs, child)
        self.scheduler_address, self.connection = "", {"tls": {"ca": authority.ca}}

def patient(args):
    # Where no kubelet runs, no pod gets ready.
    if args.type_.startswith("kubernetes:"):
        about = {**args.props["metadata"]}
        about["annotations"] = {**about.get("annotations", {}), "pulumi.com/skipAwait": "true"}
        return pulumi.ResourceTransformResult({**args.props, "metadata": about}, args.opts)

def program():
    own = {"transforms": [patient]} if wish["skip"] else {}
    if wish["folder"]:
        import pulumi_kubernetes
        provider = pulumi_kubernetes.Provider("p", render_yaml_to_directory=wish["folder"])
        own["provider"] = provider
    kind = Recorded if wish["recorded"] else KubernetesCluster
    made = kind(wish["name"], wish["recorded"] or wish["tree"], pulumi.ResourceOptions(**own))
    pulumi.export("address", made.scheduler_address)
    pulumi.export("connection", made.connection)
    pulumi.export("ca", pulumi.Output.from_input(made.connection).apply(lambda c: c["tls"]["ca"]))

stack = automation.create_or_select_stack(
    "dev", "project", program, opts=automation.LocalWorkspaceOptions(work_dir=sys.argv[1])
)
steps, errors, paths = {}, [], {}

def hear(event):
    if event.diagnostic_event is not None and event.diagnostic_event.severity == "error":
        errors.append(event.diagnostic_event.message)
    if event.resource_pre_event is not None:
        step = event.resource_pre_event.metadata
        if step.op not in ("same", "read", "refresh"):
            name = step.urn.rpartition("::")[2]
            steps.setdefault(name, []).append(str(getattr(step.op, "value", step.op)))
            paths.setdefault(name, []).extend(step.detailed_diff or ())
code = 0
try:
    getattr(stack, wish["action"])(on_event=hear, **wish["options"])
except automation.CommandError as error:
    code = 1
    errors = errors or [str(error)]
outputs = {name: output.value for name, output in stack.outputs().items()}
told = {"steps": steps, "paths": paths, "errors": errors, "code": code}
print(json.dumps({**told, "outputs": outputs}))
"""


class Stack:
    """A project in a folder, and its stack."""

    def __init__(self, folder: Path, name: str = "lab", rendered: Path | None = None) -> None:
        try:
            programs = (engine(), kubernetes_provider())
        except UnavailableError as error:
            pytest.skip(str(error))
        self.folder, self.name, self.rendered = folder, name, rendered
        #: Whether pods are not waited for.
        self.skip = False
        #: What is registered in place of a cluster; see `tests/labs/kubernetes/first_version.yaml`.
        self.recorded: list[dict[str, Any]] = []
        #: What the last run has returned.
        self.outputs: dict[str, Any] = {}
        self.states = folder / "states"
        self.states.mkdir(parents=True)
        places = {"perennial": Path(sys.executable).parent, "kubernetes": programs[1]}
        plugins = [{"name": name, "path": str(path)} for name, path in places.items()]
        project = {"name": "project", "runtime": "python", "plugins": {"providers": plugins}}
        (folder / "Pulumi.yaml").write_text(json.dumps(project))
        kept = {key: text for key, text in os.environ.items() if not key.startswith("PULUMI_")}
        self.environment = {
            **kept,
            **settings(self.states),
            "PATH": f"{programs[0]}:{os.environ['PATH']}",
            "PULUMI_HOME": str(folder / "home"),
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        }
        if rendered is not None:
            self.environment.pop("KUBECONFIG", None)

    def run(self, action: str, tree: dict[str, Any], code: int = 0, **options: Any) -> Any:
        """Do something with a cluster; return each step, and the properties that differ."""
        wish = {
            **{"action": action, "tree": tree, "options": options, "name": self.name},
            **{"skip": self.skip, "folder": str(self.rendered) if self.rendered else ""},
            "recorded": self.recorded,
        }
        words = (sys.executable, "-c", PROGRAM, str(self.folder), json.dumps(wish))
        said = run(*words, environment=self.environment, timeout=900, apart=True)
        told = json.loads(said.splitlines()[-1])
        assert told["code"] == code, told["errors"]
        self.outputs = told["outputs"]
        return told

    def changed(self, action: str, tree: dict[str, Any], **options: Any) -> dict[str, list[str]]:
        """Do something; return the steps of each resource that is changed."""
        found: dict[str, list[str]] = self.run(action, tree, **options)["steps"]
        return {name: steps for name, steps in found.items() if name not in ("project-dev", "p")}

    def kept(self) -> str:
        """Everything that Pulumi has kept, as it stands in its files."""
        files = (path for path in self.states.rglob("*") if path.is_file())
        return "\n".join(path.read_text(errors="replace") for path in files)
