"""How many pods a namespace's quotas let in."""

from __future__ import annotations

from decimal import Decimal

import pytest
from kubernetes.client import (
    V1Container,
    V1ObjectMeta,
    V1PodSpec,
    V1ResourceQuota,
    V1ResourceQuotaSpec,
    V1ResourceQuotaStatus,
    V1ResourceRequirements,
    V1ScopedResourceSelectorRequirement,
    V1ScopeSelector,
)

from perennial.platforms.kubernetes.quotas import UNLIMITED, quantity, room

POD = V1PodSpec(
    containers=[
        V1Container(
            name="dask", resources=V1ResourceRequirements(requests={"cpu": "2", "memory": "4Gi"})
        )
    ]
)
OF_HIGH = V1ScopeSelector(
    match_expressions=[
        V1ScopedResourceSelectorRequirement(
            operator="In", scope_name="PriorityClass", values=["high"]
        )
    ]
)


def quota(name: str, hard: dict[str, str], used: dict[str, str], **spec: object) -> V1ResourceQuota:
    return V1ResourceQuota(
        metadata=V1ObjectMeta(name=name),
        spec=V1ResourceQuotaSpec(hard=hard, **spec),
        status=V1ResourceQuotaStatus(hard=hard, used=used),
    )


def test_the_narrowest_quota_says_how_many() -> None:
    wide = quota("wide", {"pods": "100"}, {"pods": "10"})
    narrow = quota("narrow", {"requests.cpu": "10"}, {"requests.cpu": "3500m"})
    assert room([wide, narrow], POD) == (3, "narrow (requests.cpu: 10)")
    assert room([], POD) == (UNLIMITED, "")


def test_a_quota_of_other_pods_keeps_nobody_out() -> None:
    full = {"pods": "10"}
    others = [
        quota("high", full, full, scope_selector=OF_HIGH),
        quota("best-effort", {"pods": "0"}, {}, scopes=["BestEffort"]),
    ]
    assert room(others, POD) == (UNLIMITED, "")


@pytest.mark.parametrize(
    ("text", "value"),
    [("250m", "0.25"), ("2", "2"), ("1Ki", "1024"), ("3E", "3e18"), ("5u", "0.000005")],
)
def test_quantities(text: str, value: str) -> None:
    assert quantity(text) == Decimal(value)
