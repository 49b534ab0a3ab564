"""The registries, and the names of what Pulumi is asked to make: a contract."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pulumi
import pytest
import yaml

from perennial.fleet import opened, read
from perennial.paths import cluster_state
from perennial.platforms.local.deploy import connection
from perennial.registry import PLATFORMS
from perennial.spec import loads, parse
from perennial.stack_outputs import ClusterOutputs, clusters
from perennial.stacks.base import OUTPUTS
from perennial.stacks.provider.authority import Authority
from perennial.stacks.provider.certificate import Certificate
from perennial.stacks.provider.values import decoded

HOSTS = """
name: lab
platform: hosts
environment: {python: /opt/dask/bin/python}
workers: {cpu: {count: 4}, gpu: {count: 1}}
hosts:
  machines:
    - {address: mb.example.org, roles: [cpu, gpu]}
    - {address: ma.example.org, roles: [scheduler, jupyter]}
    - {address: 10.0.0.3, roles: [cpu]}
"""

LOCAL = "{name: lab, platform: local, workers: {cpu: {count: 1}}}"


#: When certificates end that do not end with all others.
ENDS = {"lab-worker-certificate": "2027-05-15T12:00:00+00:00"}


class Recorder(pulumi.runtime.Mocks):
    """Remembers what is registered, and makes up what only a deployment can tell."""

    def __init__(self) -> None:
        self.made: list[tuple[str, str]] = []
        self.inputs: dict[str, dict[str, Any]] = {}

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        self.made.append((args.typ, args.name))
        self.inputs[args.name] = args.inputs
        told: dict[str, Any] = {}
        for kind in (Authority, Certificate):
            told |= dict.fromkeys(kind.computed, "made") if args.typ == kind.type else {}
        if "ends" in told:
            told["ends"] = ENDS.get(args.name, "2027-06-30T12:00:00+00:00")
        if args.typ.endswith("LocalServices"):
            spec = parse(yaml.safe_dump(decoded(args.inputs["cluster"]))).spec
            told = {
                "connection": connection(spec, cluster_state(spec.name)).to_json(),
                "credentials": {"tls": dict.fromkeys(("ca", "cert", "key"), "made")},
            }
        return args.name, {**args.inputs, **told}

    def call(self, args: pulumi.runtime.MockCallArgs) -> tuple[dict[str, Any], None]:
        raise NotImplementedError


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    # Pulumi takes the thread's own loop, and `asyncio.run` in a test before has left none. In its
    # own threads it makes loops, and closes none.
    loops = []
    new_event_loop = asyncio.new_event_loop

    def make() -> asyncio.AbstractEventLoop:
        loops.append(new_event_loop())
        return loops[-1]

    monkeypatch.setattr(asyncio, "new_event_loop", make)
    asyncio.set_event_loop(make())
    made = Recorder()
    pulumi.runtime.set_mocks(made)
    yield made
    asyncio.set_event_loop(None)
    for loop in loops:
        loop.close()


def test_every_platform_has_a_component() -> None:
    for platform in PLATFORMS.values():
        assert issubclass(import_module(platform.stack).Cluster, pulumi.ComponentResource)


@pulumi.runtime.test
def run_hosts() -> pulumi.Output[Any]:
    from perennial.stacks.hosts import HostsCluster

    cluster = HostsCluster("lab", loads(HOSTS))
    return pulumi.Output.all(**{name: getattr(cluster, name) for name in OUTPUTS}).apply(_hosts)


def _hosts(outputs: dict[str, Any]) -> None:
    assert outputs["scheduler_address"] == "tls://ma.example.org:8786"
    assert outputs["jupyter_url"] == "https://ma.example.org:8888/lab"
    assert outputs["connection"]["tls"] == {"ca": "made", "cert": "made", "key": "made"}
    assert outputs["connection"]["token"] == "made"
    for group, handle in outputs["fleets"].items():
        assert opened("hosts", read("hosts", handle)), group
    assert outputs["fleets"]["gpu"] == {"members": ["gpu-mb-0"]}
    assert clusters(outputs, "s")["lab"] == ClusterOutputs(loads(HOSTS), outputs["connection"])


def test_names_of_a_cluster_on_hosts(recorder: Recorder) -> None:
    run_hosts()
    assert recorder.made[0] == ("perennial:index:HostsCluster", "lab")
    # Side by side they come in any order.
    assert sorted(recorder.made[1:]) == [
        ("perennial:index:Authority", "lab-authority"),
        ("perennial:index:HostEnvironment", "lab-10-0-0-3-environment"),
        ("perennial:index:HostEnvironment", "lab-ma-environment"),
        ("perennial:index:HostEnvironment", "lab-mb-environment"),
        ("perennial:index:HostServices", "lab-10-0-0-3-services"),
        ("perennial:index:HostServices", "lab-ma-services"),
        ("perennial:index:HostServices", "lab-mb-services"),
    ]


@pulumi.runtime.test
def run_readme() -> pulumi.Output[Any]:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    [program] = re.findall(r"```python\n(.+?)```", readme, re.S)
    known: dict[str, Any] = {"server": SimpleNamespace(private_ip=pulumi.Output.from_input("::1"))}
    exec(program, known)
    address: pulumi.Output[str] = known["cluster"].scheduler_address
    return address.apply(lambda found: _same(found, "tls://[::1]:8786"))


def _same(found: str, asked: str) -> None:
    assert found == asked


def test_the_program_that_the_readme_shows(recorder: Recorder) -> None:
    run_readme()
    assert ("perennial:index:HostServices", "lab-a-services") in recorder.made


@pulumi.runtime.test
def run_local() -> pulumi.Output[Any]:
    from perennial.stacks.local import LocalCluster

    cluster = LocalCluster("lab", loads(LOCAL))
    return pulumi.Output.all(**{name: getattr(cluster, name) for name in OUTPUTS}).apply(_local)


def _local(outputs: dict[str, Any]) -> None:
    assert outputs["scheduler_address"] == "tls://127.0.0.1:8786"
    assert outputs["connection"]["cluster"] == "lab"
    assert outputs["connection"]["tls"] == {"ca": "made", "cert": "made", "key": "made"}
    assert clusters(outputs, "s")["lab"] == ClusterOutputs(loads(LOCAL), outputs["connection"])


def test_names_of_a_cluster_on_this_machine(recorder: Recorder) -> None:
    run_local()
    assert recorder.made == [
        ("perennial:index:LocalCluster", "lab"),
        ("perennial:index:LocalServices", "lab-services"),
    ]
