"""What the engine's events are made into; the events are as the engine has sent them."""

from __future__ import annotations

from typing import Any

import pytest
from pulumi.automation.events import EngineEvent

from perennial.stacks.events import Tale, last_line, summary

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
    tale = Tale()
    heard = [
        tale.hear(event)
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
    assert summary(tale, 2.04) == "1 made, 1 changed, 1 unchanged in 2.0 s"


def test_pulumis_own_resources_are_not_told() -> None:
    tale = Tale()
    metadata = {"op": "create", "urn": "a::b", "type": "pulumi:pulumi:Stack", "provider": ""}
    event = EngineEvent.from_json({"resourcePreEvent": {"metadata": metadata}})
    assert tale.hear(event) is None
    assert not tale.steps


@pytest.mark.parametrize(
    "platform",
    ["platform: local", "platform: hosts, environment: {python: /p}, hosts: {machines: [ma]}"],
)
def test_a_resource_of_somebody_else_is_never_hidden_from_a_plan(platform: str) -> None:
    """Whatever the engine would do to it, a plan shows it; what changes nothing is not there."""
    from perennial.plan import Step
    from perennial.spec import loads
    from perennial.stacks.planning import planned

    tale = Tale(preview=True)
    for op in ("same", "create", "update", "replace", "create-replacement", "delete", "read"):
        metadata = {
            "op": op,
            "urn": f"urn:pulumi:lab::perennial::aws:ec2/instance:Instance::{op}d",
            "type": "aws:ec2/instance:Instance",
            "provider": "",
        }
        tale.hear(EngineEvent.from_json({"resourcePreEvent": {"metadata": metadata}}))
    spec = loads(f"{{name: lab, {platform}, workers: {{cpu: {{count: 1}}}}}}")
    assert planned(spec, tale) == [
        Step(action, "", f"{action}d", "aws:ec2/instance:Instance")
        for action in ("create", "update", "replace", "delete")
    ]


def test_a_preview_tells_only_what_it_looks_at() -> None:
    tale = Tale(preview=True)
    assert tale.hear(step("resourcePreEvent", "create", "HostServices", "ma-services")) is None
    assert tale.hear(step("resourcePreEvent", "refresh", "HostServices", "ma-services"))
    assert len(tale.steps) == 1


def test_errors_are_one_line_each() -> None:
    tale = Tale()
    tale.hear(step("resourcePreEvent", "create", "HostServices", "mb-services"))
    tale.hear(said("error", TRACEBACK, f"{URN}x::ma-services"))
    tale.hear(said("error", TRACEBACK, f"{URN}x::ma-environment"))
    tale.hear(said("error", "disk full", f"{URN}perennial:index:HostServices::mb-services"))
    tale.hear(said("error", "update failed\n"))
    assert tale.errors == ["ma: refused the connection; start sshd there", "mb: disk full"]


def test_an_error_of_another_provider_names_its_resource() -> None:
    """pulumi-kubernetes says last what is the same for all of them."""
    tale, urn = (
        Tale(),
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
        assert tale.hear(event) == f"making Deployment lab-{part}-deployment"
        text = (
            "2 errors occurred:\n\t* timed out\n\t* Minimum number of live Pods was not attained\n"
        )
        tale.hear(said("error", text, urn.format(part)))
    assert tale.errors == [
        f"lab-{part}-deployment: Minimum number of live Pods was not attained"
        for part in ("cpu", "gpu")
    ]


def test_what_stays_is_noted() -> None:
    tale = Tale()
    tale.hear(said("info", "ma: left in place: /home/dask/notebooks\n"))
    assert tale.notes == ["ma: left in place: /home/dask/notebooks"]


def test_what_members_abandoned_is_kept_by_member() -> None:
    tale = Tale()
    tale.hear(said("info", "mb: replacing cpu-mb-0\nmb: cpu-mb-0 abandoned 1 task (x: y)\n"))
    tale.hear(said("info", "mb: cpu-mb-0 abandoned 1 task (x: y)\nmc: gpu-mc-3 abandoned a key"))
    tale.hear(said("info", "mc: a file abandoned by somebody"))
    assert tale.abandoned == {"cpu-mb-0": "1 task (x: y)", "gpu-mc-3": "a key"}


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
