"""What counts as an edited object: what the API server adds or writes in another way does not."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from perennial.platforms.kubernetes.comparing import differences
from perennial.platforms.kubernetes.manifests import manifests
from perennial.spec import loads

SPEC = """
name: lab
platform: kubernetes
workers: {cpu: {count: 2}, gpu: {scale: {min: 0, max: 2}}}
jupyter: {}
kubernetes: {image: "dask:1", workers: {cpu: {resources: {limits: {cpu: "0.5"}}}}}
"""


def test_what_is_rendered_does_not_differ_from_itself() -> None:
    for objects in manifests(loads(SPEC)).values():
        for each in objects:
            assert list(differences(each, copy.deepcopy(each))) == []


@pytest.mark.parametrize(
    ("wanted", "found", "paths"),
    [
        ("{spec: {replicas: 2, paused: false}}", "{spec: {replicas: 7}}", []),
        ("{spec: {ingress: []}}", "{spec: {podSelector: {}}}", []),
        ("{cpu: '0.5', memory: 1024Mi}", "{cpu: 500m, memory: 1Gi}", []),
        ("{cpu: '0.5'}", "{cpu: 600m}", ["cpu"]),
        ("{spec: {ports: [{port: 1}]}}", "{spec: {ports: [{port: 1, protocol: TCP}]}}", []),
        ("{spec: {ports: [{port: 1}]}}", "{spec: {ports: [{port: 1}, {port: 2}]}}", ["spec.ports"]),
        ("{env: [{name: A, value: x}]}", "{env: [{name: A, value: y}]}", ["env.A.value"]),
        ("{data: {f: 'a: 1'}}", "{data: {f: 'a: 2'}}", ["data.f"]),
        ("{data: {f: text}}", "{}", ["data"]),
        ("{spec: {a: 1}}", "{spec: {a: 1, nodeSelector: {p: x}}}", ["spec.nodeSelector"]),
        ("{spec: {a: 1}}", "{spec: {a: 1, dnsPolicy: ClusterFirst, tolerations: []}}", []),
        ("{automount: false}", "{automount: true}", ["automount"]),
    ],
)
def test_a_property_differs(wanted: str, found: str, paths: list[str]) -> None:
    read: tuple[Any, Any] = (yaml.safe_load(wanted), yaml.safe_load(found))
    assert list(differences(*read)) == paths
