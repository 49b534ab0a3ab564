"""The fleet of a group on EC2: the instances of its Auto Scaling group.

Who leaves is named: the group terminates that instance and lowers its size in one call. Every
instance is protected from the group's own choice. Cut off anywhere, the next call ends what was
begun: it reads what the group holds, and asks for what is missing. An answer may be an old one:
an instance that has been removed is not counted again, or one too many would go for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from perennial.aws.client import Aws
from perennial.aws.failures import AwsError, Cause
from perennial.errors import Busy, FleetError, FleetMissing, NoCapacity
from perennial.fleet import chosen, refusals
from perennial.observation import Member, MemberState, Observation
from perennial.platforms.ec2.parts import Ec2Handle

#: States of an instance in its group, by what they begin with → those of a member. Others, such
#: as Standby, are of no member: a person has taken the instance out.
_STATES: dict[str, MemberState] = {
    "Pending": "starting",
    "InService": "running",
    "Terminating": "leaving",
}
#: What an instance is in once nothing of it is left.
_GONE = "Terminating:Proceed"
#: What the API says of an instance that it does not know any more, or that is on its way already.
_PASSED = ("not found", "is not part of", "terminat")
#: What it says where the size cannot be lowered by one: the instance stays.
_STAYS = "min size"
#: Instances that were removed last, and may still be in an answer of before.
_REMEMBERED = 1000


class RefusedError(FleetError):
    """The API refuses this call as it stands."""


@dataclass(frozen=True, slots=True)
class Held:
    """What an Auto Scaling group holds."""

    desired: int
    most: int
    members: tuple[Member, ...]


class Ec2Fleet:
    """The instances of one Auto Scaling group."""

    chooses: ClassVar[bool] = True
    handle: ClassVar[type[Ec2Handle]] = Ec2Handle

    def __init__(
        self, group: str, region: str, name: str, fixed: bool = False, aws: Aws | None = None
    ) -> None:
        self.group = group
        self.region = region
        #: Name of the Auto Scaling group.
        self.name = name
        #: Whether the size is that of the cluster file, and nobody else's.
        self.fixed = fixed
        self._aws = aws
        self._removed: deque[str] = deque(maxlen=_REMEMBERED)

    def observe(self) -> Observation:
        """Look; see `perennial.fleet.Fleet`."""
        held = self._held()
        running = [one for one in held.members if one.state == "running"]
        return Observation(
            desired=held.desired,
            members=held.members,
            settled=len(running) == len(held.members) == held.desired,
            least=held.desired if self.fixed else 0,
            most=held.desired if self.fixed else held.most,
            utmost=held.most,
            beyond=f"the largest size of the Auto Scaling group {self.name}; raise scale.max",
        )

    def resize(self, to: int, leaving: Sequence[Member] = ()) -> int:
        """Make it so many members; see `perennial.fleet.Fleet`."""
        with refusals():
            return self._resize(to, {one.id for one in leaving})

    # Inside

    def _resize(self, to: int, named: set[str]) -> int:
        held = self._held()
        going = chosen(held.members, to, named)
        size = size_of(held, to, {*going})
        if size == held.desired and not going:
            return size
        if size > held.most:
            raise NoCapacity(
                f"{self.group}: found {held.most}, the largest size of its Auto Scaling group"
                f" {self.name}, asked for {size}; raise scale.max, then `perennial up`"
            )
        if going:
            # A size may not fall below 0: somebody else may have lowered it before.
            if held.desired < len(going):
                self._set_size(len(going))
            told = {each for each in going if self._terminate(each)}
            # Where an answer is lost, botocore asks twice, and a size may be lowered twice.
            now = self._held()
            size = max(to, min(size_of(now, 0, named | told), held.desired))
            held = now
        if held.desired != size:
            self._set_size(size)
        return size

    def _held(self) -> Held:
        """Read the group in one call, which lists all of its instances."""
        found = self._call(
            "look at its Auto Scaling group",
            "describe_auto_scaling_groups",
            AutoScalingGroupNames=[self.name],
        )["AutoScalingGroups"]
        if not found or found[0].get("Status"):  # it is being deleted
            raise FleetMissing(
                f"{self.group}: AWS has no Auto Scaling group {self.name} in the region"
                f" {self.region}; `perennial up` makes it"
            )
        return held_of(self.group, found[0], self._removed)

    def _terminate(self, instance: str) -> bool:
        """Terminate an instance and lower the size by it; whether it goes, or is gone already."""
        try:
            self._call(
                f"remove {instance}",
                "terminate_instance_in_auto_scaling_group",
                InstanceId=instance,
                ShouldDecrementDesiredCapacity=True,
            )
        except RefusedError as error:
            said = str(error).lower()
            if _STAYS in said or not any(word in said for word in _PASSED):
                return False
        self._removed.append(instance)
        return True

    def _set_size(self, size: int) -> None:
        self._call(
            "set the size",
            "set_desired_capacity",
            AutoScalingGroupName=self.name,
            DesiredCapacity=size,
            HonorCooldown=False,
        )

    def _call(self, what: str, method: str, **given: Any) -> Any:
        try:
            if self._aws is None:
                self._aws = Aws(self.region)
            client = self._aws.client("autoscaling")
            called: Callable[..., Any] = getattr(client, method)
            return self._aws.call(f"{what} of {self.group}", called, **given)
        except AwsError as error:
            raise _raised(error)(f"{self.group}: {error}") from None


def _raised(error: AwsError) -> type[FleetError]:
    """Choose the exception for an error of AWS's."""
    if error.code in ("ScalingActivityInProgress", "ResourceContention", "ResourceInUse"):
        return Busy
    if error.code == "ValidationError":
        return RefusedError
    kinds: dict[Cause, type[FleetError]] = {Cause.THROTTLED: Busy, Cause.QUOTA: NoCapacity}
    return kinds.get(error.cause, FleetError)


def held_of(group: str, found: Mapping[str, Any], removed: Container[str] = ()) -> Held:
    """Read what the API says of an Auto Scaling group. Pure.

    Where it has not heard yet that instances were removed, nor has it that the size was lowered.
    """
    members = tuple(
        member_of(group, each)
        for each in sorted(found["Instances"], key=lambda each: str(each["InstanceId"]))
        if each["LifecycleState"].partition(":")[0] in _STATES and each["LifecycleState"] != _GONE
    )
    unheard = {one.id for one in members if one.state != "leaving" and one.id in removed}
    members = tuple(replace(one, state="leaving") if one.id in unheard else one for one in members)
    desired = max(0, int(found["DesiredCapacity"]) - len(unheard))
    return Held(desired, int(found["MaxSize"]), members)


def member_of(group: str, instance: Mapping[str, Any]) -> Member:
    """Describe an instance; its worker is called after it."""
    name = str(instance["InstanceId"])
    state = _STATES[instance["LifecycleState"].partition(":")[0]]
    return Member(name, f"{group}-{name}", state)


def size_of(held: Held, to: int, going: set[str]) -> int:
    """Return the size that a group can have: nobody who stays goes for it. Pure.

    A group may have more instances than its size: one that is replaced is still there.
    """
    staying = sum(one.state != "leaving" and one.id not in going for one in held.members)
    return max(to, min(staying, held.desired))
