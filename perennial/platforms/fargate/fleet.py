"""The fleet of a group on Fargate: the tasks of its ECS service.

ECS picks itself which task goes when a service gets smaller, but never one that is protected. So
all that stay are protected first, those that leave are not; then the size is lowered, and those
that leave are stopped by name. The other way round ECS would replace what was stopped. Cut off
anywhere, nobody but who was named can go, and the next call ends it. The protection ends by itself
after some minutes: a new version replaces no task that has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from perennial.aws.client import Aws
from perennial.aws.failures import AwsError, Cause
from perennial.errors import Busy, FleetError, FleetMissing, NoCapacity
from perennial.fleet import chosen, refusals
from perennial.observation import Member, MemberState, Observation
from perennial.platforms.fargate.ecs import Ecs, EcsService, EcsTask
from perennial.platforms.fargate.parts import FargateHandle

#: Words of ECS's events: it finds no room, its tasks do not start, or some have started since.
_NO_ROOM = "was unable to place"
_NO_START = "is unable to consistently start"
_ROOM = ("has started", "has reached a steady state")
#: What they say where AWS itself has none, as of Spot, and what helps.
_UNAVAILABLE = "Capacity is unavailable"
_SHORTAGE = "add zones, or give the group a share on_demand in fargate.workers"
#: What a task that left says of why it stopped.
REASON = "drained, and not needed any more"


class FargateFleet:
    """The tasks of one ECS service."""

    chooses: ClassVar[bool] = True
    handle: ClassVar[type[FargateHandle]] = FargateHandle

    def __init__(
        self,
        group: str,
        region: str,
        cluster: str,
        service: str,
        fixed: bool = False,
        ecs: Ecs | None = None,
    ) -> None:
        self.group = group
        self.region = region
        self.cluster = cluster
        self.service = service
        #: Whether the size is that of the cluster file, and nobody else's.
        self.fixed = fixed
        self._ecs = ecs

    def observe(self) -> Observation:
        """Look; see `perennial.fleet.Fleet`."""
        try:
            service, tasks = self._look()
        except AwsError as error:
            raise FleetError(f"{self.group}: {error}") from None
        members = tuple(self._member(task) for task in tasks)
        whole = len(members) == service.desired == service.running
        return Observation(
            desired=service.desired,
            members=members,
            settled=whole and all(one.state == "running" for one in members),
            least=service.desired if self.fixed else 0,
            most=service.desired if self.fixed else None,
        )

    def resize(self, to: int, leaving: Sequence[Member] = ()) -> int:
        """Make it so many members; see `perennial.fleet.Fleet`."""
        with refusals():
            try:
                return self._resize(to, frozenset(one.id for one in leaving))
            except AwsError as error:
                kind = NoCapacity if error.cause is Cause.QUOTA else Busy
                raise kind(f"{self.group}: {error}") from None

    # Inside

    def _resize(self, to: int, named: frozenset[str]) -> int:
        service, tasks = self._look()
        names = chosen([self._member(task) for task in tasks], to, named)
        going = [task for task in tasks if task.id in names]
        staying = [task for task in tasks if task.id not in names]
        # What is asked for and not there yet is no member: it can be given up.
        size = max(to, len(staying))
        if size == service.desired and not going:
            return size
        if service.deployments > 1:
            raise Busy(
                f"{self.group}: a new version of the service {self.service} is being rolled out;"
                " it is sized when that has ended"
            )
        if size > service.desired:
            self._check_room(service)
        if size < service.desired:
            self._check_whole(service, tasks)
            self._shield(staying, going)
        if size != service.desired:
            self._ecs_of().resize(self.service, size)
        for task in going:
            self._ecs_of().stop(task, REASON)
        return size

    def _shield(self, staying: Sequence[EcsTask], going: Sequence[EcsTask]) -> None:
        """Let ECS choose among those that leave alone, or change nothing."""
        ecs = self._ecs_of()
        running = [task for task in staying if task.last == "RUNNING"]
        if len(running) < len(staying) and any(task.last == "RUNNING" for task in going):
            raise Busy(
                f"{self.group}: {len(staying) - len(running)} members that stay are starting, and"
                " ECS protects only those that run; it is sized once they do"
            )
        shielded = ecs.protect(running, protected=True)
        bare = {task.arn for task in running} - shielded
        gone = {task.arn for task in ecs.described([*bare]) if task.wanted != "RUNNING"}
        if bare - gone:
            raise Busy(
                f"{self.group}: ECS has not protected {len(bare - gone)} tasks that stay; it is"
                " sized once it does"
            )
        ecs.protect(going, protected=False)

    def _check_whole(self, service: EcsService, tasks: Sequence[EcsTask]) -> None:
        """Raise where a task runs that is not listed yet: nobody would protect it."""
        listed = sum(task.last == "RUNNING" for task in tasks)
        if listed < service.running:
            raise Busy(
                f"{self.group}: ECS lists {listed} of {service.running} tasks that run; it is sized"
                " once it lists all"
            )

    def _check_room(self, service: EcsService) -> None:
        """Raise where ECS has found no room or started nothing, and has since neither."""
        for event in service.events:
            if any(word in event for word in _ROOM):
                return
            if _NO_START in event:  # tasks that crash, or whose image cannot be pulled
                raise NoCapacity(
                    f"{self.group}: tasks of {self.service} do not start, so it gets no more than"
                    f" {service.running} members; `perennial doctor` and `perennial logs"
                    f" {self.group}` say why"
                )
            if _NO_ROOM in event:
                said = event.partition("Reason: ")[2].partition(". For more")[0] or event
                fix = _SHORTAGE if _UNAVAILABLE in event else "raise the quota, or lower scale.max"
                raise NoCapacity(
                    f"{self.group}: Fargate has no room for more than {service.running} members:"
                    f" {said.rstrip('.')}; {fix}"
                )

    def _look(self) -> tuple[EcsService, list[EcsTask]]:
        """Look at the service and at the tasks that shall run."""
        ecs = self._ecs_of()
        try:
            service = ecs.services([self.service]).get(self.service)
            if service is not None:
                tasks = [task for task in ecs.tasks(self.service) if task.wanted == "RUNNING"]
                return service, tasks
        except AwsError as error:
            if error.cause is not Cause.MISSING:
                raise
        raise FleetMissing(
            f"{self.group}: no service {self.service} in the ECS cluster {self.cluster} in"
            f" {self.region}; `perennial up` makes it"
        )

    def _member(self, task: EcsTask) -> Member:
        return Member(task.id, f"{self.group}-{task.id}", state_of(task))

    def _ecs_of(self) -> Ecs:
        if self._ecs is None:
            self._ecs = Ecs(Aws(self.region), self.cluster)
        return self._ecs


def state_of(task: EcsTask) -> MemberState:
    """Where a task is in its life."""
    if task.wanted != "RUNNING":
        return "leaving"
    return "running" if task.is_running else "starting"
