"""What the engine's events are made into; the events are as the engine has sent them."""

from __future__ import annotations

from typing import Any

import pytest
from pulumi.automation.events import EngineEvent

from perennial.stacks.events import DeploymentLog, last_line, summary

URN = "urn:pulumi:lab::perennial::perennial:hosts:HostsCluster$"
TRACEBACK = """Traceback (most recent call last):
  File "/x/pulumi/dynamic/__main__.py", line 84, in wrapper
    return fn(self, request, context)
           ^^^^^^^^^^^^^^^^^^^^^^^^^^
perennial.errors.FleetError: ma: refused the connection; start sshd there
"""


def step(kind: str, op: str, resource: str, name: str) -> EngineEvent:
    """An event about a resource."""
    typ = f"perennial:index:{resource}"
    metadata = {"op": op, "urn": f"{URN}{typ}::{name}", "type": typ, "provider": ""}
    return EngineEvent.from_json({kind: {"metadata": metadata}})


def said(severity: str, message: str, urn: str | None = None) -> EngineEvent:
    """A diagnostic."""
    event: dict[str, Any] = {"message": message, "severity": severity, "color": "never"}
    return EngineEvent.from_json({"diagnosticEvent": {**event, **({"urn": urn} if urn else {})}})


def test_a_deployment() -> None:
    log = DeploymentLog()
    heard = [
        log.record(event)
        for event in (
            step("resourcePreEvent", "refresh", "HostServices", "ma-services"),
            step("resOutputsEvent", "refresh", "HostServices", "ma-services"),
            step("resourcePreEvent", "same", "ClusterAuthority", "authority"),
            step("resOutputsEvent", "same", "ClusterAuthority", "authority"),
            step("resourcePreEvent", "create", "HostEnvironment", "mb-environment"),
            said("debug", "beginning rpc register resource\n"),
            said("info", "mb: starting cpu-mb-0\n\n"),
            step("resOutputsEvent", "create", "HostEnvironment", "mb-environment"),
            step("resourcePreEvent", "update", "HostServices", "ma-services"),
            step("resOutputsEvent", "update", "HostServices", "ma-services"),
        )
    ]
    assert [text for text in heard if text] == [
        "looking at services of ma",
        "making Python environment of mb",
        "mb: starting cpu-mb-0",
        "Python environment of mb made",
        "changing services of ma",
        "services of ma changed",
    ]
    assert summary(log, 2.04) == "1 made, 1 changed, 1 unchanged in 2.0 s"


def test_pulumis_own_resources_are_not_told() -> None:
    log = DeploymentLog()
    metadata = {"op": "create", "urn": "a::b", "type": "pulumi:pulumi:Stack", "provider": ""}
    event = EngineEvent.from_json({"resourcePreEvent": {"metadata": metadata}})
    assert log.record(event) is None
    assert not log.steps


@pytest.mark.parametrize(
    "platform",
    ["platform: local", "platform: hosts, environment: {python: /p}, hosts: {machines: [ma]}"],
)
def test_a_resource_of_somebody_else_is_never_hidden_from_a_plan(platform: str) -> None:
    """Whatever the engine would do to it, a plan shows it; what changes nothing is not there."""
    from perennial.plan import Step
    from perennial.spec import loads
    from perennial.stacks.planning import planned

    log = DeploymentLog(preview=True)
    for op in ("same", "create", "update", "replace", "create-replacement", "delete", "read"):
        metadata = {
            "op": op,
            "urn": f"urn:pulumi:lab::perennial::aws:ec2/instance:Instance::{op}d",
            "type": "aws:ec2/instance:Instance",
            "provider": "",
        }
        log.record(EngineEvent.from_json({"resourcePreEvent": {"metadata": metadata}}))
    spec = loads(f"{{name: lab, {platform}, workers: {{cpu: {{count: 1}}}}}}")
    assert planned(spec, log) == [
        Step(action, "", f"{action}d", "aws:ec2/instance:Instance")
        for action in ("create", "update", "replace", "delete")
    ]


def test_a_preview_tells_only_what_it_looks_at() -> None:
    log = DeploymentLog(preview=True)
    assert log.record(step("resourcePreEvent", "create", "HostServices", "ma-services")) is None
    assert log.record(step("resourcePreEvent", "refresh", "HostServices", "ma-services"))
    assert len(log.steps) == 1


def test_errors_are_one_line_each() -> None:
    log = DeploymentLog()
    log.record(step("resourcePreEvent", "create", "HostServices", "mb-services"))
    log.record(said("error", TRACEBACK, f"{URN}x::ma-services"))
    log.record(said("error", TRACEBACK, f"{URN}x::ma-environment"))
    log.record(said("error", "disk full", f"{URN}perennial:index:HostServices::mb-services"))
    log.record(said("error", "update failed\n"))
    assert log.errors == ["ma: refused the connection; start sshd there", "mb: disk full"]


def test_an_error_of_another_provider_names_its_resource() -> None:
    """pulumi-kubernetes says last what is the same for all of them."""
    log, urn = (
        DeploymentLog(),
        "urn:pulumi:lab::perennial::kubernetes:apps/v1:Deployment::lab-{}-deployment",
    )
    for part in ("cpu", "gpu"):
        metadata = {
            "op": "create",
            "urn": urn.format(part),
            "type": "kubernetes:apps/v1:Deployment",
            "provider": "",
        }
        event = EngineEvent.from_json({"resourcePreEvent": {"metadata": metadata}})
        assert log.record(event) == f"making Deployment lab-{part}-deployment"
        text = (
            "2 errors occurred:\n\t* timed out\n\t* Minimum number of live Pods was not attained\n"
        )
        log.record(said("error", text, urn.format(part)))
    assert log.errors == [
        f"lab-{part}-deployment: Minimum number of live Pods was not attained"
        for part in ("cpu", "gpu")
    ]


def test_what_stays_is_noted() -> None:
    log = DeploymentLog()
    log.record(said("info", "ma: left in place: /home/dask/notebooks\n"))
    assert log.notes == ["ma: left in place: /home/dask/notebooks"]


def test_what_members_abandoned_is_kept_by_member() -> None:
    log = DeploymentLog()
    log.record(said("info", "mb: replacing cpu-mb-0\nmb: cpu-mb-0 abandoned 1 task (x: y)\n"))
    log.record(said("info", "mb: cpu-mb-0 abandoned 1 task (x: y)\nmc: gpu-mc-3 abandoned a key"))
    log.record(said("info", "mc: a file abandoned by somebody"))
    assert log.abandoned == {"cpu-mb-0": "1 task (x: y)", "gpu-mc-3": "a key"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("a.b.FleetError: ma: no", "ma: no"),
        ("ma: no", "ma: no"),
        ("KeyError: 'x'", "KeyError: 'x'"),
        ("one\ntwo\n\n", "two"),
    ],
)
def test_last_line(text: str, expected: str) -> None:
    assert last_line(text) == expected
