"""The component for Kubernetes registers what `perennial render` writes, and nothing else."""

from __future__ import annotations

import base64
from importlib import import_module
from typing import Any

import pulumi
import pytest
import yaml
from pulumi.runtime.rpc import _special_secret_sig, _special_sig_key

from perennial.platforms.kubernetes import secrets
from perennial.platforms.kubernetes.manifests import manifests
from perennial.spec import loads
from perennial.stack_outputs import ClusterOutputs, clusters
from perennial.stacks.base import OUTPUTS
from perennial.stacks.inputs import hidden
from perennial.stacks.kubernetes import KubernetesCluster, token
from perennial.stacks.provider.values import decoded
from tests.stacks.test_registry import Recorder, recorder

__all__ = ["recorder"]

TREE: dict[str, Any] = {
    "name": "lab",
    "platform": "kubernetes",
    "workers": {"cpu": {"scale": {"min": 1, "max": 3}}, "gpu": {"count": 2}},
    "kubernetes": {
        "image": "dask:1",
        "namespace": "dask",
        "jupyter": {"storage": {}, "ingress": {"host": "lab.example.org"}},
    },
}


def rendered(tree: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What `perennial render` writes, by the names that the children have."""
    return {
        f"lab-{part}-{each['kind'].lower()}": each
        for part, objects in manifests(loads(yaml.safe_dump(tree))).items()
        for each in objects
    }


def registered(made: Recorder) -> dict[str, dict[str, Any]]:
    """Objects of Kubernetes that were registered, without the Secrets."""
    types = {name: typ for typ, name in made.made}
    found = {}
    for name, inputs in decoded(made.inputs).items():
        if types[name].startswith("kubernetes:") and not types[name].endswith(":Secret"):
            about = {key: value for key, value in inputs["metadata"].items() if value != {}}
            found[name] = {**inputs, "metadata": about}
    return found


def run(tree: dict[str, Any], opts: pulumi.ResourceOptions | None = None) -> dict[str, Any]:
    """Run a program with one cluster; return its outputs."""
    told: dict[str, Any] = {}

    @pulumi.runtime.test
    def program() -> pulumi.Output[Any]:
        args = {key: value for key, value in tree.items() if key != "platform"}
        cluster = KubernetesCluster("lab", args, opts)
        outputs = {name: getattr(cluster, name) for name in OUTPUTS}
        return pulumi.Output.all(**outputs).apply(told.update)

    program()
    return told


def test_the_children_are_what_is_rendered(recorder: Recorder) -> None:
    told = run(TREE)
    assert registered(recorder) == rendered(TREE)
    types = {name: typ for typ, name in recorder.made}
    assert all(name.startswith("lab") for name in types)
    assert all(types[name] == token(each) for name, each in rendered(TREE).items())
    assert told["scheduler_address"] == "tls://lab-scheduler.dask.svc:8786"
    assert told["jupyter_url"] == "https://lab.example.org/lab"
    assert told["fleets"]["gpu"]["deployment"] == "lab-gpu"
    assert told["connection"]["token"] == "made"
    described = ClusterOutputs(loads(yaml.safe_dump(TREE)), told["connection"])
    assert clusters(told, "dev") == {"lab": described}


def test_each_secret_holds_what_its_role_reads_and_no_key_of_the_authority(
    recorder: Recorder,
) -> None:
    run(TREE)
    types = {name: typ for typ, name in recorder.made}
    found = {
        inputs["metadata"]["name"]: decoded(inputs["data"])
        for name, inputs in recorder.inputs.items()
        if types[name].endswith(":Secret")
    }
    wanted = secrets.contents(loads(yaml.safe_dump(TREE)))
    assert {name: set(data) for name, data in found.items()} == {
        name: set(files) for name, files in wanted.items()
    }
    every = {base64.b64decode(text) for data in found.values() for text in data.values()}
    assert every == {b"made"}
    assert recorder.inputs["lab-jupyter-certificate"]["names"][-1] == "lab.example.org"


def test_their_types_are_those_of_pulumi_kubernetes() -> None:
    for each in rendered(TREE).values():
        _, module, kind = token(each).split(":")
        group, version = module.removesuffix(".k8s.io").replace(".k8s.io/", "/").split("/")
        group = group.replace("rbac.authorization", "rbac")
        classes = import_module(f"pulumi_kubernetes.{group}.{version}")
        assert getattr(classes, kind).pulumi_type == token(each)


def test_any_value_may_be_an_output(recorder: Recorder) -> None:
    def output(value: Any) -> Any:
        return pulumi.Output.from_input(value).apply(lambda known: known)

    loop_free = {
        **TREE,
        "workers": {"cpu": {"memory": "3 GiB", "scale": {"min": 1, "max": 3}}, "gpu": {"count": 2}},
    }
    told: dict[str, Any] = {}

    @pulumi.runtime.test
    def program() -> pulumi.Output[Any]:
        own = loop_free["kubernetes"]
        tree = {
            **loop_free,
            "workers": {
                **loop_free["workers"],
                "cpu": {"memory": output("3 GiB"), "scale": {"min": 1, "max": 3}},
            },
            "kubernetes": {
                **own,
                "image": output("dask:1"),
                "namespace": output("dask"),
                "service_account": output("mine"),
                "tolerations": [output({"key": "dask"})],
                "jupyter": {"storage": {}, "ingress": {"host": output("lab.example.org")}},
            },
        }
        del tree["platform"]
        cluster = KubernetesCluster("lab", tree)
        return pulumi.Output.all(address=cluster.scheduler_address).apply(told.update)

    program()
    plain = {**TREE["kubernetes"], "service_account": "mine", "tolerations": [{"key": "dask"}]}
    assert registered(recorder) == rendered({**loop_free, "kubernetes": plain})
    assert told["address"] == "tls://lab-scheduler.dask.svc:8786"


def test_of_a_secret_configuration_every_object_is_secret(recorder: Recorder) -> None:
    @pulumi.runtime.test
    def program() -> None:
        KubernetesCluster("lab", hidden(loads(yaml.safe_dump(TREE))))

    program()
    assert registered(recorder) == rendered(TREE)
    for name in rendered(TREE):
        clear = {key for key, value in recorder.inputs[name].items() if not is_secret(value)}
        assert clear == {"apiVersion", "kind"}


def is_secret(value: Any) -> bool:
    return isinstance(value, dict) and value.get(_special_sig_key) == _special_secret_sig


@pytest.mark.parametrize("key", ["network", "jupyter"])
def test_which_objects_there_are_is_known(recorder: Recorder, key: str) -> None:
    @pulumi.runtime.test
    def program() -> None:
        inner = {"network": {"policies": pulumi.Output.from_input(True)}}
        own = {**inner, "jupyter": {"storage": pulumi.Output.from_input({})}}
        KubernetesCluster("lab", {**TREE, "kubernetes": {"image": "dask:1", key: own[key]}})

    with pytest.raises(pulumi.RunError, match=rf"kubernetes\.{key}.*found an Output"):
        program()


def test_transforms_reach_every_child(recorder: Recorder) -> None:
    seen: list[str] = []

    def seen_by(args: pulumi.ResourceTransformationArgs) -> None:
        seen.append(args.name)

    run(TREE, pulumi.ResourceOptions(transformations=[seen_by]))
    assert set(seen) == {name for _, name in recorder.made}
