"""The fleet on Kubernetes: the contract with a real API server, whose kubelet is this test."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from perennial.errors import Busy, FleetError
from perennial.observation import Member
from perennial.platforms.kubernetes.client import Api, ApiError
from perennial.platforms.kubernetes.fleet import COST, KubernetesFleet
from tests.homes import wait_until
from tests.labs.kubernetes.lab import Lab, running
from tests.platforms.contract import Contract, Platform

pytestmark = [pytest.mark.lab, pytest.mark.smoke, pytest.mark.timeout(600)]  # may wait for the lab

NAMESPACE = "fleet"
LABELS = {"app": "cpu"}
READY = {
    "phase": "Running",
    "conditions": [{"type": "Ready", "status": "True"}, {"type": "PodScheduled", "status": "True"}],
}


def deployment(image: str = "one") -> dict[str, Any]:
    container = {"name": "dask", "image": image, "resources": {"requests": {"cpu": "100m"}}}
    template = {"metadata": {"labels": LABELS}, "spec": {"containers": [container]}}
    return {
        "metadata": {"name": "lab-cpu"},
        "spec": {"replicas": 3, "selector": {"matchLabels": LABELS}, "template": template},
    }


class OnKubernetes(Platform):
    """A Deployment whose pods are said to be ready, and to be gone, by a thread."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.held = False
        self.stop = threading.Event()
        self.fleet = KubernetesFleet("cpu", NAMESPACE, "lab-cpu", api=api)
        self.thread = threading.Thread(target=self._be_a_kubelet, daemon=True)
        self.thread.start()

    def begin(self) -> None:
        """Have three members that run, whatever was before."""
        self.held = False
        apps, core = self.api.apps, self.api.core
        for quota in core.list_namespaced_resource_quota(NAMESPACE).items:
            core.delete_namespaced_resource_quota(quota.metadata.name, NAMESPACE)
        if apps.list_namespaced_deployment(NAMESPACE).items:
            apps.delete_namespaced_deployment("lab-cpu", NAMESPACE)
        wait_until(lambda: not self.pods())
        apps.create_namespaced_deployment(NAMESPACE, deployment())
        self.settled(3)

    def pods(self) -> list[Any]:
        listed: list[Any] = self.api.core.list_namespaced_pod(NAMESPACE).items
        return listed

    def picture(self) -> Any:
        found = self.api.apps.read_namespaced_deployment("lab-cpu", NAMESPACE)
        return found.metadata.generation, sorted(
            (pod.metadata.name, str(pod.metadata.annotations)) for pod in self.pods()
        )

    def hold_back(self) -> None:
        self.held = True

    def lose(self) -> None:
        self.api.apps.delete_namespaced_deployment("lab-cpu", NAMESPACE)
        self.heard()

    def heard(self) -> None:
        """Wait until the fleet knows that something has changed."""
        assert isinstance(self.fleet, KubernetesFleet)
        changes = self.fleet._changes
        wait_until(lambda: changes is None or changes.possible)

    @contextmanager
    def busy(self) -> Iterator[None]:
        patch = self.api.apps.patch_namespaced_deployment
        patch("lab-cpu", NAMESPACE, {"spec": {"paused": True}})
        yield
        patch("lab-cpu", NAMESPACE, {"spec": {"paused": False}})

    def fill(self) -> None:
        quota = {"metadata": {"name": "full"}, "spec": {"hard": {"requests.cpu": "350m"}}}
        self.api.core.create_namespaced_resource_quota(NAMESPACE, quota)

        def counted() -> bool:
            status = self.api.core.read_namespaced_resource_quota("full", NAMESPACE).status
            return bool(status and (status.used or {}).get("requests.cpu") == "300m")

        wait_until(counted)

    def _be_a_kubelet(self) -> None:
        while not self.stop.wait(0.05):
            for pod in self.pods():
                name = pod.metadata.name
                try:
                    if pod.metadata.deletion_timestamp is not None:
                        self.api.call(
                            "end a pod",
                            self.api.core.delete_namespaced_pod,
                            name,
                            NAMESPACE,
                            grace_period_seconds=0,
                        )
                    elif pod.spec.node_name is None and not self.held:
                        self._start(name)
                except ApiError:
                    continue  # it has gone in the meantime

    def _start(self, name: str) -> None:
        target = {"apiVersion": "v1", "kind": "Node", "name": "nowhere"}
        binding = {"metadata": {"name": name}, "target": target}
        self.api.call(
            "bind",
            self.api.core.create_namespaced_pod_binding,
            name,
            NAMESPACE,
            binding,
            _preload_content=False,
        )
        patch = self.api.core.patch_namespaced_pod_status
        self.api.call("start", patch, name, NAMESPACE, {"status": READY})


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with running() as lab:
        yield lab


@pytest.fixture(scope="module")
def standing(lab: Lab) -> Iterator[OnKubernetes]:
    api = Api()
    api.core.create_namespace({"metadata": {"name": NAMESPACE}})
    account = "default"  # a controller makes it, and pods need it
    wait_until(
        lambda: (
            account
            in {a.metadata.name for a in api.core.list_namespaced_service_account(NAMESPACE).items}
        )
    )
    platform = OnKubernetes(api)
    yield platform
    platform.stop.set()
    platform.thread.join()


@pytest.fixture
def platform(standing: OnKubernetes) -> OnKubernetes:
    standing.begin()
    return standing


class TestKubernetes(Contract):
    """What holds for every fleet holds for this one."""

    def test_members_are_named_after_their_group_and_differ(self, platform: Platform) -> None:
        """A member is called as its pod, and so is its worker."""
        seen = platform.fleet.observe()
        assert seen.desired == len({each.id for each in seen.members}) == 3
        assert {each.state for each in seen.members} == {"running"}
        for member in seen.members:
            assert member.worker == member.id
            assert member.id.startswith("lab-cpu-")
        assert (seen.least, seen.most) == (0, None)


def test_a_pod_that_waits_does_not_stay_in_the_place_of_one_that_was_named(
    platform: OnKubernetes,
) -> None:
    """A ReplicaSet would take those that are not ready first, whatever their marks."""
    members = platform.fleet.observe().members
    platform.hold_back()
    assert platform.fleet.resize(4) == 4
    wait_until(lambda: len(platform.pods()) == 4)
    assert platform.fleet.resize(3, members[:1]) == 3

    def as_asked() -> bool:
        there = {pod.metadata.name for pod in platform.pods()}
        return len(there) == 3 and members[0].id not in there

    wait_until(as_asked)
    assert {one.id for one in members[1:]} <= {pod.metadata.name for pod in platform.pods()}


def test_what_was_begun_and_cut_off_is_ended_by_the_next_call(platform: OnKubernetes) -> None:
    members = platform.fleet.observe().members
    marked = {"metadata": {"annotations": {COST: "-1000", "dask-perennial/leaving": "true"}}}
    platform.api.core.patch_namespaced_pod(members[1].id, NAMESPACE, marked)
    platform.heard()
    assert {one.id for one in platform.fleet.observe().members if one.state == "leaving"} == {
        members[1].id
    }
    assert platform.fleet.resize(2) == 2
    seen = platform.settled(2)
    assert {one.id for one in seen.members} == {members[0].id, members[2].id}


def test_a_rolling_change_is_not_disturbed(platform: OnKubernetes) -> None:
    platform.hold_back()
    patch = platform.api.apps.patch_namespaced_deployment
    patch("lab-cpu", NAMESPACE, deployment("two"))
    wait_until(lambda: len(platform.pods()) > 3)

    def refused() -> bool:
        try:
            platform.fleet.resize(4)
        except Busy:
            return True
        return False

    wait_until(refused)


def test_a_size_that_somebody_else_has_changed_is_not_overwritten(platform: OnKubernetes) -> None:
    assert isinstance(platform.fleet, KubernetesFleet)
    with pytest.raises(FleetError, match="cpu"):
        platform.fleet._set_size(7, 2)
    assert platform.fleet.observe().desired == 3


def test_what_has_not_changed_is_not_asked_for_again(
    platform: OnKubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    api, asked = Api(), []
    call = api.call
    monkeypatch.setattr(
        api, "call", lambda what, *a, **m: (asked.append(what), call(what, *a, **m))[1]
    )
    fleet = KubernetesFleet("cpu", NAMESPACE, "lab-cpu", api=api)

    def is_quiet() -> bool:
        before = len(asked)
        fleet.observe()
        return len(asked) == before

    wait_until(is_quiet)
    seen, before = fleet.observe(), len(asked)
    for _ in range(100):
        assert fleet.observe() == seen
    assert len(asked) == before

    # Whatever changes is seen: a pod, the size, and the Deployment itself.
    platform.hold_back()
    platform.api.core.delete_namespaced_pod(seen.members[0].id, NAMESPACE)
    wait_until(lambda: seen.members[0] not in fleet.observe().members, 5)
    wait_until(is_quiet)
    size = {"spec": {"replicas": 5}}
    platform.api.apps.patch_namespaced_deployment_scale("lab-cpu", NAMESPACE, size)
    wait_until(lambda: fleet.observe().desired == 5, 5)
    assert fleet.resize(4) == 4
    assert fleet.observe().desired == 4, "its own changes are seen at once"


def test_a_fixed_group_is_as_large_as_its_deployment_says(platform: OnKubernetes) -> None:
    fixed = KubernetesFleet("cpu", NAMESPACE, "lab-cpu", fixed=True, api=platform.api)
    seen = fixed.observe()
    assert (seen.least, seen.desired, seen.most) == (3, 3, 3)
    assert fixed.resize(3, [Member("gone", "gone", "running")]) == 3
