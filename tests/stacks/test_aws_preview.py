"""Clusters on AWS with values that Pulumi learns only later: what a preview shows of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pulumi
import pytest
from pulumi.output import UNKNOWN, Unknown

from perennial.stacks.ec2 import Ec2Cluster
from perennial.stacks.fargate import FargateCluster
from perennial.stacks.inputs import is_structure
from tests.stacks import test_ec2, test_fargate
from tests.stacks.test_registry import Recorder, recorder

__all__ = ["recorder"]

# pulumi-aws says so while it is imported.
pytestmark = [
    pytest.mark.usefixtures("recorder"),
    pytest.mark.filterwarnings("ignore:s3.BucketV2 has been deprecated"),
]

Tree = dict[str, Any]
Path = tuple[str | int, ...]
#: What both platforms have, beside the usual.
AWS: Tree = {
    "region": "eu-central-1",
    "tags": {"cost-centre": "physics"},
    "alarms": {"topic": "arn:aws:sns:eu-central-1:123456789012:alarms"},
    "permissions_boundary": "arn:aws:iam::123456789012:policy/boundary",
    "logs": {"retention": 7},
    "network": {
        "vpc": "vpc-0a1b2c3d",
        "subnets": ["subnet-0a1b2c3d", "subnet-1a1b2c3d"],
        "security_groups": ["sg-0a1b2c3d"],
        "clients": ["10.0.0.0/8", "sg-1a1b2c3d"],
        "domain": "lab.internal",
    },
}
COMMON: Tree = {
    "env": {"STAGE": "test"},
    "dask": {"distributed.scheduler.work-stealing": False},
    "scheduler": {"memory": "3 GiB"},
    "scaler": {"interval": "2 s"},
}
EC2: Tree = {
    **test_ec2.TREE,
    **COMMON,
    "ec2": {
        **AWS,
        "image": "ami-0a1b2c3d4e5f60718",
        "key_pair": "ours",
        "disk": "40 GiB",
        "scheduler": {"instance_type": "m7i.xlarge", "volume": "30 GiB"},
        "workers": {"cpu": {"image": "ami-1a1b2c3d4e5f60718", "key_pair": "mine"}},
    },
}
FARGATE: Tree = {
    **test_fargate.TREE,
    **COMMON,
    "fargate": {
        **AWS,
        "image": "registry.example.org/dask:1",
        "architecture": "arm64",
        "platform_version": "1.4.0",
        "policies": ["arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"],
        "scheduler": {"cpu": 2},
        "workers": {"cpu": {"image": "registry.example.org/gpu:1", "memory": "16 GiB"}},
    },
}
PLATFORMS: dict[str, tuple[Callable[..., Any], Callable[[], Recorder], Tree]] = {
    "ec2": (Ec2Cluster, test_ec2.Account, EC2),
    "fargate": (FargateCluster, test_fargate.Account, FARGATE),
}


def run(platform: str, tree: Tree, preview: bool = False) -> Recorder:
    """Run a program; return what it has registered."""
    component, account, _ = PLATFORMS[platform]
    made = account()
    pulumi.runtime.set_mocks(made, preview=preview)

    @pulumi.runtime.test
    def program() -> None:
        component("lab", tree)

    program()
    return made


def registered(platform: str, tree: Tree, preview: bool) -> dict[str, Any]:
    """Run a program; return the inputs of each resource. What is not known is None."""
    made = run(platform, tree, preview)
    return {name: plain(inputs) for name, inputs in made.inputs.items()}


def plain(value: Any) -> Any:
    """Return inputs as values that can be compared."""
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    if isinstance(value, pulumi.FileAsset):
        return value.path
    return None if isinstance(value, Unknown) else value


def leaves(value: Any, at: Path = ()) -> Iterator[tuple[Path, Any]]:
    """List the values of a cluster file that may be Outputs."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from leaves(inner, (*at, key))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from leaves(inner, (*at, place))
    elif not is_structure(at):
        yield at, value


def changed(tree: Any, at: Path, change: Callable[[Any], Any]) -> Any:
    """Change one value of a cluster file."""
    if not at:
        return change(tree)
    copy = {**tree} if isinstance(tree, Mapping) else [*tree]
    copy[at[0]] = changed(tree[at[0]], at[1:], change)
    return copy


def agrees(shown: Any, real: Any) -> bool:
    """Whether all that a preview shows is what is made."""
    if shown is None:
        return True
    if isinstance(shown, Mapping) and isinstance(real, Mapping):
        return all(agrees(inner, real.get(key)) for key, inner in shown.items())
    if isinstance(shown, list) and isinstance(real, list):
        return len(shown) == len(real) and all(map(agrees, shown, real))
    return bool(shown == real)


def unknown(shown: Any, real: Any, at: str = "") -> Iterator[str]:
    """List the properties that a preview does not know."""
    if shown is None and real is not None:
        yield at
    elif isinstance(real, Mapping):
        for key, value in real.items():
            yield from unknown(shown.get(key), value, f"{at}.{key}" if at else key)
    elif isinstance(real, list):
        for place, value in enumerate(real):
            yield from unknown(shown[place], value, at)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_preview_shows_what_is_made_and_all_that_does_not_depend_on_an_output(
    platform: str,
) -> None:
    *_, tree = PLATFORMS[platform]
    real = registered(platform, tree, preview=False)
    hidden: dict[str, set[str]] = {}
    for at, _ in leaves(tree):
        shown = registered(platform, changed(tree, at, lambda _: output(UNKNOWN)), preview=True)
        assert shown.keys() == real.keys()
        wrong = {name for name, inputs in shown.items() if not agrees(inputs, real[name])}
        assert wrong == set(), at
        hidden[".".join(map(str, at))] = {*unknown(shown, real)}
    # Each value is for something.
    assert [key for key, properties in hidden.items() if not properties] == []
    for key, properties in KNOWN[platform].items():
        assert hidden[key] == properties, key


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_cluster_of_outputs_is_the_same_as_one_of_values(platform: str) -> None:
    *_, tree = PLATFORMS[platform]
    every = tree
    for at, value in leaves(tree):
        every = changed(every, at, lambda _, value=value: output(value))
    assert registered(platform, every, preview=False) == registered(platform, tree, preview=False)


def output(value: Any) -> pulumi.Output[Any]:
    return pulumi.Output.from_input(value)


#: Properties that no preview knows without a value.
KNOWN: dict[str, dict[str, set[str]]] = {
    "ec2": {
        "ec2.image": {f"lab-{part}-template.imageId" for part in ("scheduler", "cpu", "gpu-x")},
        "ec2.workers.cpu.image": {"lab-cpu-template.imageId"},
        "ec2.logs.retention": {"lab-logs.retentionInDays"},
    },
    "fargate": {
        "fargate.platform_version": {
            f"lab-{part}-service.platformVersion"
            for part in ("scheduler", "cpu", "gpu-x", "jupyter", "scaler")
        },
        "fargate.workers.cpu.memory": {"lab-cpu-task.cpu", "lab-cpu-task.memory"},
        "fargate.logs.retention": {"lab-logs.retentionInDays"},
    },
}
