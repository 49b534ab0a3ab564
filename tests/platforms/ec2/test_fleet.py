"""The fleet of an Auto Scaling group, on moto's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError
from hypothesis import given, settings
from hypothesis import strategies as st
from moto import mock_aws
from moto.autoscaling.models import FakeAutoScalingGroup, InstanceState, autoscaling_backends

from perennial.aws.client import Aws
from perennial.errors import Busy, FleetMissing, NoCapacity
from perennial.fleet import chosen
from perennial.observation import Member
from perennial.platforms.ec2.fleet import Ec2Fleet, Held, held_of, size_of
from tests.examples import examples
from tests.platforms.contract import Contract, Platform, ids, there

REGION, NAME, ACCOUNT = "eu-central-1", "perennial-lab-cpu", "123456789012"


class OnAutoScaling(Platform):
    """A group in moto, and faults between it and the client."""

    def __init__(self) -> None:
        self.aws = Aws(REGION)
        self.client = self.aws.client("autoscaling")
        self.fleet = Ec2Fleet("cpu", REGION, NAME, aws=self.aws)
        ec2 = self.aws.client("ec2")
        image = ec2.describe_images(MaxResults=5)["Images"][0]["ImageId"]
        self._subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
        ec2.create_launch_template(
            LaunchTemplateName="cpu",
            LaunchTemplateData={"ImageId": image, "InstanceType": "m7i.large"},
        )

    def begin(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make the group anew."""
        self.patch = monkeypatch
        with suppress(ClientError):
            self.lose()
        self.client.create_auto_scaling_group(
            AutoScalingGroupName=NAME,
            LaunchTemplate={"LaunchTemplateName": "cpu"},
            MinSize=0,
            MaxSize=20,
            DesiredCapacity=3,
            VPCZoneIdentifier=self._subnet,
            NewInstancesProtectedFromScaleIn=True,
        )

    def picture(self) -> Any:
        found = self.client.describe_auto_scaling_groups(AutoScalingGroupNames=[NAME])
        return json.dumps(found["AutoScalingGroups"], default=str)

    def hold_back(self) -> None:
        """Have moto leave new instances in the state in which a real group has them first."""
        usual = FakeAutoScalingGroup.replace_autoscaling_group_instances

        def pending(group: Any, count: int, tags: dict[str, str]) -> None:
            before = len(group.instance_states)
            usual(group, count, tags)
            for state in group.instance_states[before:]:
                state.lifecycle_state = "Pending:Wait"

        self.patch.setattr(FakeAutoScalingGroup, "replace_autoscaling_group_instances", pending)
        self.patch.setattr(
            FakeAutoScalingGroup, "active_instances", lambda group: group.instance_states
        )

    def lose(self) -> None:
        self.client.delete_auto_scaling_group(AutoScalingGroupName=NAME, ForceDelete=True)

    @contextmanager
    def busy(self) -> Iterator[None]:
        with self.refused("SetDesiredCapacity", "ScalingActivityInProgress", "in progress"):
            yield

    def fill(self) -> None:
        self.client.update_auto_scaling_group(AutoScalingGroupName=NAME, MaxSize=3)

    @contextmanager
    def refused(self, action: str, code: str, message: str) -> Iterator[None]:
        """Answer one action with a refusal."""
        error = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {}}
        with self.answered(action, error, 400):
            yield

    @contextmanager
    def answered(self, action: str, found: dict[str, Any], status: int = 200) -> Iterator[None]:
        """Answer one action, and do nothing."""

        def answer(**_given: Any) -> tuple[AWSResponse, dict[str, Any]]:
            return AWSResponse("", status, {}, None), found

        event = f"before-call.auto-scaling.{action}"
        self.client.meta.events.register(event, answer)
        try:
            yield
        finally:
            self.client.meta.events.unregister(event, answer)

    def states(self) -> list[InstanceState]:
        group = autoscaling_backends[ACCOUNT][REGION].autoscaling_groups[NAME]
        return list(group.instance_states)


@pytest.fixture(scope="module")
def account() -> Iterator[OnAutoScaling]:
    with pytest.MonkeyPatch.context() as patch:
        for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(key, "testing")
        patch.delenv("AWS_PROFILE", raising=False)
        with mock_aws():
            yield OnAutoScaling()


@pytest.fixture
def platform(account: OnAutoScaling, monkeypatch: pytest.MonkeyPatch) -> OnAutoScaling:
    account.begin(monkeypatch)
    return account


class TestEc2(Contract):
    """What holds for every fleet holds for this one."""

    def test_members_are_named_after_their_group_and_differ(self, platform: Platform) -> None:
        """A member is called as its instance, and its worker after it."""
        seen = platform.fleet.observe()
        assert seen.desired == len(ids(seen.members)) == 3
        assert {each.state for each in seen.members} == {"running"}
        for member in seen.members:
            assert member.id.startswith("i-")
            assert member.worker == f"cpu-{member.id}"
        assert (seen.least, seen.most, seen.utmost) == (0, 20, 20)
        assert "raise scale.max" in seen.beyond

    def test_a_platform_without_room(self, platform: Platform) -> None:
        before = platform.fleet.observe()
        platform.fill()
        with pytest.raises(NoCapacity, match="cpu: found 3, the largest size"):
            platform.fleet.resize(4)
        assert platform.fleet.observe().members == before.members
        assert platform.fleet.resize(2, before.members[:1]) == 2


def test_a_lost_answer_that_lowers_the_size_twice_is_mended(platform: OnAutoScaling) -> None:
    """Botocore asks again where no answer came, though the call took effect."""
    members = platform.fleet.observe().members
    lowered: list[str] = []

    def lose_once(**_more: Any) -> None:
        if not lowered:
            lowered.append("once")
            platform.client.set_desired_capacity(
                AutoScalingGroupName=NAME, DesiredCapacity=1, HonorCooldown=False
            )

    event = "after-call.auto-scaling.TerminateInstanceInAutoScalingGroup"
    platform.client.meta.events.register(event, lose_once)
    assert platform.fleet.resize(2, members[:1]) == 2
    platform.client.meta.events.unregister(event, lose_once)
    assert lowered
    seen = platform.settled(2)
    assert there(seen) == ids(members[1:])


def test_what_was_cut_off_is_ended_by_the_next_call(platform: OnAutoScaling) -> None:
    """One of two had gone, and the size was lowered by it alone."""
    members = platform.fleet.observe().members
    platform.client.terminate_instance_in_auto_scaling_group(
        InstanceId=members[0].id, ShouldDecrementDesiredCapacity=True
    )
    assert platform.fleet.resize(1, members[:2]) == 1
    assert there(platform.settled(1)) == {members[2].id}


def test_an_answer_of_before_a_removal_counts_nobody_twice(platform: OnAutoScaling) -> None:
    """Else one too many would be drained, and the group would fall below its least size."""
    before = platform.client.describe_auto_scaling_groups(AutoScalingGroupNames=[NAME])
    members = platform.fleet.observe().members
    assert platform.fleet.resize(2, members[:1]) == 2
    with platform.answered("DescribeAutoScalingGroups", before):
        seen = platform.fleet.observe()
        assert (there(seen), seen.desired, seen.settled) == (ids(members[1:]), 2, False)
        assert platform.fleet.resize(1, members[:2]) == 1
    assert there(platform.settled(1)) == {members[2].id}


def test_an_instance_that_has_just_gone_is_a_success(platform: OnAutoScaling) -> None:
    members = platform.fleet.observe().members
    said = f"Instance Id not found - No managed instance found for instance ID: {members[0].id}"
    with platform.refused("TerminateInstanceInAutoScalingGroup", "ValidationError", said):
        assert platform.fleet.resize(2, members[:1]) == 2


def test_an_instance_that_the_least_size_keeps_is_still_a_member(platform: OnAutoScaling) -> None:
    """AWS speaks of terminating there, too; an instance that stays must not count as removed."""
    members = platform.fleet.observe().members
    said = (
        "Currently, desiredSize equals minSize (0). Terminating instance without replacement will"
        " violate group's min size constraint. Either set shouldDecrementDesiredCapacity flag to"
        " false or lower group's min size."
    )
    with platform.refused("TerminateInstanceInAutoScalingGroup", "ValidationError", said):
        platform.fleet.resize(2, members[:1])
    seen = platform.fleet.observe()
    assert {one.state for one in seen.members} == {"running"}
    assert there(seen) == ids(members)
    assert platform.fleet.resize(2, members[:1]) == 2
    assert there(platform.settled(2)) == ids(members[1:])


def test_an_instance_that_cannot_be_given_up_yet_counts(platform: OnAutoScaling) -> None:
    platform.hold_back()
    assert platform.fleet.resize(5) == 5
    said = "This instance is in the state Pending."
    with platform.refused("TerminateInstanceInAutoScalingGroup", "ValidationError", said):
        assert platform.fleet.resize(3) == 5
    assert platform.fleet.observe().desired == 5


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        ("ResourceContention", Busy, "try again"),
        ("AccessDenied", Busy, "the right autoscaling:SetDesiredCapacity"),
    ],
)
def test_refusals_of_the_api(
    platform: OnAutoScaling, code: str, error: type[Exception], words: str
) -> None:
    said = {
        "AccessDenied": "User: me is not authorized to perform: autoscaling:SetDesiredCapacity"
    }.get(code, "try again")
    with (
        platform.refused("SetDesiredCapacity", code, said),
        pytest.raises(error, match=words),
    ):
        platform.fleet.resize(4)


def test_a_group_of_another_region_is_missing(platform: OnAutoScaling) -> None:
    with pytest.raises(FleetMissing, match="no Auto Scaling group perennial-lab-cpu in the region"):
        Ec2Fleet("cpu", "us-west-2", NAME).resize(1)


def test_what_a_person_has_taken_out_is_no_member(platform: OnAutoScaling) -> None:
    instance = platform.states()[0].instance.id
    platform.client.enter_standby(
        AutoScalingGroupName=NAME, InstanceIds=[instance], ShouldDecrementDesiredCapacity=True
    )
    seen = platform.fleet.observe()
    assert instance not in ids(seen.members)
    assert platform.fleet.resize(2) == 2
    assert instance in {state.instance.id for state in platform.states()}


@pytest.mark.parametrize("state", ["Pending:Wait", "Stopped", "Running", "Terminating:Wait"])
def test_an_instance_of_the_warm_pool_is_no_member(platform: OnAutoScaling, state: str) -> None:
    before = platform.fleet.observe()
    waiting = platform.states()[0]
    waiting.lifecycle_state = f"Warmed:{state}"
    seen = platform.fleet.observe()
    assert ids(seen.members) == ids(before.members) - {waiting.instance.id}
    assert not seen.settled


LIFE = (
    *("Pending:Wait", "InService", "Terminating:Wait", "Terminating:Proceed", "Standby"),
    *("Warmed:Pending:Wait", "Warmed:Stopped"),
)
INSTANCES = st.lists(st.sampled_from(LIFE), max_size=8)


@settings(max_examples=examples(200), deadline=None)
@given(INSTANCES, st.integers(0, 12), st.integers(0, 12), st.sets(st.integers(0, 7)))
def test_nobody_who_runs_and_is_not_named_goes(
    life: list[str], desired: int, to: int, named: set[int]
) -> None:
    instances = [
        {"InstanceId": f"i-{place}", "LifecycleState": state} for place, state in enumerate(life)
    ]
    held = held_of("cpu", {"DesiredCapacity": desired, "MaxSize": 20, "Instances": instances})
    names = {f"i-{place}" for place in named}
    going = chosen(held.members, to, names)
    running = {one.id for one in held.members if one.state == "running"}
    assert running & {*going} <= names
    assert len(going) == len({*going})
    size = size_of(held, to, {*going})
    staying = len([one for one in held.members if one.state != "leaving"]) - len(going)
    assert size >= to
    assert size >= min(staying, desired)
    # Said twice: what goes is leaving, and nothing more is to be done.
    after = Held(
        size,
        20,
        tuple(Member(one.id, one.worker, "running") for one in held.members if one.id not in going),
    )
    assert size_of(after, to, set()) == size or len(after.members) > size
