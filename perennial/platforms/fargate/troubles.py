"""Why a task of ECS stopped, or is not placed, and what to do. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from perennial.platforms.fargate.ecs import EcsService, EcsTask

#: ``ended``: it was told to; ``taken``: AWS took it back; ``image``, ``secret`` and ``address``: it
#: cannot start; ``crash``: its process ended by itself.
Kind = Literal["ended", "taken", "image", "secret", "address", "memory", "crash", "other"]

#: Whose words stand in the reason of a task that stopped → what it is.
_WORDS: tuple[tuple[str, Kind], ...] = (
    ("CannotPullContainer", "image"),
    ("CannotPullImageManifest", "image"),
    ("unable to pull secrets", "secret"),
    ("secretsmanager", "secret"),
    ("InsufficientFreeAddressesInSubnet", "address"),
    ("OutOfMemory", "memory"),
    ("Spot Task was interrupted", "taken"),
    ("maintenance on the underlying infrastructure", "taken"),
    ("retire", "taken"),
    ("Scaling activity", "ended"),
    ("Task stopped by", "ended"),
    ("drained", "ended"),
    ("Essential container in task exited", "crash"),
)
_REMEDIES: dict[Kind, str] = {
    "image": "correct fargate.image, and check whether its tasks reach the registry by NAT or by"
    " endpoints",
    "secret": "`perennial up` makes it; its tasks reach Secrets Manager by NAT or by an endpoint",
    "address": "its subnets have no free address: name more in fargate.network.subnets, or lower"
    " the group's size",
    "memory": "raise fargate's memory of it, or lower the memory of its processes",
    "crash": "see `perennial logs {part}`",
    "other": "see `perennial logs {part}`",
    "taken": "ECS starts another one",
    "ended": "",
}
#: Exit code of a process that was killed for its memory.
_KILLED = 137


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong with a task."""

    kind: Kind
    text: str

    @property
    def is_wrong(self) -> bool:
        """Whether somebody has to do something."""
        return self.kind not in ("ended", "taken")


def of_task(part: str, task: EcsTask) -> Trouble | None:
    """Say why a task stopped; None where it runs."""
    if task.wanted != "STOPPED" and task.last != "STOPPED":
        return None
    kind: Kind = next((kind for words, kind in _WORDS if words in task.reason), "other")
    if kind == "crash" and task.exit_code == _KILLED:
        kind = "memory"
    code = f" with {task.exit_code}" if task.exit_code is not None and kind == "crash" else ""
    said = " ".join(task.reason.split()).rstrip(".") or "stopped"
    remedy = _REMEDIES[kind].format(part=part)
    return Trouble(kind, "; ".join(filter(None, [f"{said}{code}", remedy])))


def of_service(service: EcsService) -> str:
    """Say what keeps ECS from placing tasks; empty where nothing does, or nothing does any more."""
    for event in service.events:
        if "has reached a steady state" in event or "has started" in event:
            return ""
        if "unable to" in event:
            return " ".join(event.partition(") ")[2].partition(" For more information")[0].split())
    return ""
