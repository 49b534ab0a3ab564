"""What is put beside an adopted release, and how a person says it; pure."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import pytest

from perennial.errors import PerennialError
from perennial.platforms.kubernetes.chart.adopting import _needed, unpacked
from perennial.platforms.kubernetes.chart.bounds import bounds, wanted
from perennial.platforms.kubernetes.chart.release import Release, ReleaseGroup
from perennial.platforms.kubernetes.chart.scaler_objects import (
    ADOPTS,
    Wanted,
    objects_of,
    rights,
    scaler_settings,
)
from perennial.platforms.kubernetes.restricted import violations
from perennial.scaler import settings

TIMES = {"--interval": "5 s", "--idle": "5 min", "--drain": "60 s"}
RELEASE = Release(
    name="lab",
    namespace="dask",
    scheduler="tcp://lab-dask-scheduler.dask.svc:8786",
    http="lab-dask-scheduler.dask.svc:80",
    labels={"app": "dask", "release": "lab"},
    groups=(
        ReleaseGroup("worker", "lab-dask-worker", 3, threads=2, processes=2, memory=2**32),
        ReleaseGroup("big", "lab-dask-worker-big", 1),
    ),
)


def objects(**more: Any) -> dict[str, dict[str, Any]]:
    chosen = Wanted("dask:1", {"worker": (1, 10)}, **more)
    made = objects_of(RELEASE, chosen, {"worker": 3, "big": 1})
    return {f"{each['kind']} {each['metadata']['name']}": each for each in made}


def test_what_is_made_is_the_scaler_and_its_rights_and_what_was_asked_for() -> None:
    usual = [f"{kind} lab-perennial" for kind in ("ServiceAccount", "Role", "RoleBinding")]
    usual += ["ConfigMap lab-perennial", "Deployment lab-perennial"]
    assert list(objects()) == usual
    more = set(objects(policies=True, budgets=True)) - set(usual)
    assert more == {
        f"{kind} lab-perennial-{part}"
        for kind in ("NetworkPolicy", "PodDisruptionBudget")
        for part in ("scheduler", "worker")
    }
    for each in objects(policies=True, budgets=True).values():
        assert each["metadata"]["labels"][ADOPTS] == "lab"
        # Nothing of ours may look like a part of the release to its Services.
        assert not {"app", "release", "component"} & each["metadata"]["labels"].keys()


def test_the_scaler_s_pod_passes_restricted_and_its_settings_are_understood() -> None:
    made = objects()
    pod = made["Deployment lab-perennial"]["spec"]["template"]
    assert violations(pod["spec"]) == []
    text = made["ConfigMap lab-perennial"]["data"]["scaler.json"]
    found = settings.parse(json.loads(text))
    assert (found.adopted, found.http, found.interval) == (True, RELEASE.http, 5.0)
    main, big = found.groups
    assert (main.group.min, main.group.max, main.group.slots) == (1, 10, 4)
    assert main.group.memory == 2 * 2**32
    assert main.fleet.to_json() == {
        **{"group": "worker", "namespace": "dask", "deployment": "lab-dask-worker"},
        **{"fixed": False, "adopted": True},
    }
    assert big.fleet.to_json()["fixed"] is True
    other = dict(scaler_settings(RELEASE, Wanted("dask:1", {"worker": (1, 11)})))
    assert other != json.loads(text)


def test_its_rights_end_at_the_groups_of_the_release() -> None:
    rules = objects()["Role lab-perennial"]["rules"]
    named = {rule["resources"][0]: rule.get("resourceNames") for rule in rules}
    mine = ["lab-dask-worker", "lab-dask-worker-big"]
    assert named["deployments"] == named["deployments/scale"] == mine
    verbs = {verb for rule in rules for verb in rule["verbs"]}
    assert verbs == {"get", "list", "watch", "patch", "delete"}
    assert not {"secrets", "*"} & {name for rule in rules for name in rule["resources"]}


def test_no_right_is_given_away_that_was_not_asked_for_before() -> None:
    """The API server refuses to make a role with more rights than whoever makes it has."""
    needed = _needed(Wanted("dask:1", {}))
    for rule in rights(RELEASE):
        (group,), (resource,) = rule["apiGroups"], rule["resources"]
        assert {*rule["verbs"]} <= {*needed[group, resource]}, (group, resource)


def test_policies_let_in_the_release_the_scaler_and_clients() -> None:
    made = objects(policies=True)
    rules = made["NetworkPolicy lab-perennial-scheduler"]["spec"]["ingress"]
    peers = [each["podSelector"]["matchLabels"] for each in rules[0]["from"]]
    assert peers == [RELEASE.labels, {ADOPTS: "lab"}, {"lab.dask-perennial/client": "true"}]
    assert rules[0]["ports"] == [{"port": 8786, "protocol": "TCP"}]
    assert "from" not in rules[1]  # the dashboard, as it was


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["worker"], "--scale: found 'worker'; allowed: GROUP=MIN:MAX"),
        (["worker=3:1"], "--scale: found 'worker=3:1'"),
        (["worker=0:0"], "--scale: found 'worker=0:0'"),
        (["worker=-1:3"], "--scale: found 'worker=-1:3'"),
        (["a=1:2", "a=1:3"], "--scale: found a twice"),
    ],
)
def test_wrong_bounds_are_one_line(words: list[str], said: str) -> None:
    with pytest.raises(PerennialError) as raised:
        bounds(words)
    assert str(raised.value).startswith(said)


def test_options_are_read() -> None:
    found = wanted(["worker=1:10", "big=0:2"], "dask:1", TIMES, budgets=True)
    assert found == Wanted("dask:1", {"worker": (1, 10), "big": (0, 2)}, budgets=True)
    for image, times, said in (
        (None, TIMES, "--image: found nothing"),
        ("a b", TIMES, "--image: found a b"),
        ("a", {**TIMES, "--idle": "soon"}, "--idle: found 'soon'"),
        ("a", {**TIMES, "--interval": "0.1 s"}, "--interval: found less than 1 s"),
    ):
        with pytest.raises(PerennialError) as raised:
            wanted(["worker=1:2"], image, times)
        assert str(raised.value).startswith(said)
    with pytest.raises(PerennialError, match="--scale: found nothing"):
        wanted([], "a", TIMES)


def test_what_helm_keeps_is_read_and_anything_else_is_nothing() -> None:
    held = {"config": {"worker": {"replicas": 2}}}
    packed = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(held).encode())))
    assert unpacked(packed.decode()) == held
    bomb = base64.b64encode(base64.b64encode(gzip.compress(b"[" * 2**26))).decode()
    for other in ("", "x", base64.b64encode(b"x").decode(), bomb):
        assert unpacked(other) is None
