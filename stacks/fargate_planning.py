"""What the engine's preview of a cluster on Fargate means to a person."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from pulumi.automation.events import StepEventMetadata

from perennial.aws import names, prices
from perennial.aws.client import Aws
from perennial.errors import PerennialError
from perennial.plan import Action, Impact, Step
from perennial.platforms.fargate import costs
from perennial.platforms.fargate.ecs import Ecs
from perennial.platforms.fargate.parts import Part, count, ecs_cluster, parts
from perennial.spec import ClusterSpec
from perennial.spec.words import plural

from . import engine
from .planning import ACTIONS, in_pulumis_words
from .provider.values import decoded

Tree = Mapping[str, Any]
#: Kinds of resources, by part and by what is done to them.
Others = dict[tuple[str, Action], set[str]]

#: What it costs when the tasks of a part are replaced; a group's drain first.
_COSTS = {"scheduler": Impact.LOSES_WORK, "jupyter": Impact.KERNELS, "scaler": Impact.NONE}
_TASKS = "tasks"
#: Parts that are no service, in the order in which they are made.
_GROUND = ("certificates", "network", "cluster", "logs", "domain", "notebooks", "balancer")
#: Properties of a container that a reason names.
_FEW = 3


def described(spec: ClusterSpec, changes: Sequence[StepEventMetadata]) -> list[Step]:
    """List what a deployment would do, part by part."""
    found: list[Step] = []
    tasks: dict[str, Step] = {}
    others: Others = {}
    versions = {_part(step): step for step in changes if _kind(step) == "TaskDefinition"}
    for step in changes:
        kind, part = _kind(step), _part(step)
        if engine.kind_of(step.type) in ("Authority", "Certificate"):
            others.setdefault(("certificates", ACTIONS[step.op]), set()).add(step.type[16:])
        elif kind == "Service" and ":ecs/" in step.type:
            tasks[part] = _tasks(part, step, versions.get(part))
        elif kind:
            others.setdefault((part, ACTIONS[step.op]), set()).add(kind)
        elif not step.type.startswith("pulumi:"):
            found.append(in_pulumis_words(step))
    # A new version of a task is nothing by itself: its service takes it into use.
    for key in [key for key in others if key[0] in tasks]:
        others[key].discard("TaskDefinition")
    return [*found, *_ordered(spec, tasks, others)]


def first(spec: ClusterSpec) -> list[Step]:
    """List what the first deployment of a cluster would do, without asking the engine."""
    others = Others({("certificates", "create"): {"Authority", "Certificate"}})
    options = spec.options
    made = {
        "network": options.network.is_made,
        "notebooks": options.notebooks is not None and options.notebooks.file_system is None,
        "balancer": getattr(options, "load_balancer", False),
    }
    words = {
        "network": {"Vpc"} | ({"NatGateway"} if options.network.nat != "none" else set()),
        "cluster": {"Cluster"},
        "logs": {"LogGroup"},
        "domain": {"PrivateDnsNamespace"},
        "notebooks": {"FileSystem"},
        "balancer": {"LoadBalancer"},
    }
    if ground := costs.of_ground(spec):
        words["network"].add(prices.written(ground))
    for part, kinds in words.items():
        if made.get(part, True):
            others[part, "create"] = kinds
    every = parts(spec)
    for role in dict.fromkeys(part.service.role for part in every):
        others[role, "create"] = {"Role", "Secret", "SecurityGroup"}
    tasks = {part.key: Step("create", "", part.key, _size(spec, part)) for part in every}
    return _ordered(spec, tasks, others)


def stop_scheduler(spec: ClusterSpec, _had: Collection[str], say: Callable[[str], None]) -> None:
    """Stop the scaler and the scheduler before all the rest: no member drains for who goes too."""
    ecs = Ecs(Aws(spec.options.region, spec.options.profile), ecs_cluster(spec.name))
    for key in ("scaler", "scheduler"):
        with suppress(PerennialError):  # what is in the way is said when it is removed
            say(f"stopping the {key}")
            ecs.resize(key, 0)


def _size(spec: ClusterSpec, part: Part) -> str:
    number = plural(count(spec, part), "task")
    spot = ", some on Spot" if part.service.group and spec.options.group(part.key).spot else ""
    return f"{number} of {part.size}{spot}, {prices.written(costs.of_part(spec, part))}"


def _ordered(spec: ClusterSpec, tasks: Mapping[str, Step], others: Others) -> list[Step]:
    """List the steps part by part: what the tasks are made with, then the tasks."""
    order = [*_GROUND, "scheduler", "worker", *spec.workers, "jupyter", "scaler"]
    gone = sorted({*tasks, *(part for part, _ in others)} - {*order})
    found: list[Step] = []
    for part in (*order, *gone):
        found += [
            Step(action, "", part, ", ".join(sorted(kinds)))
            for (other, action), kinds in others.items()
            if other == part and kinds
        ]
        found += [tasks[part]] if part in tasks else []
    return found


def _kind(step: StepEventMetadata) -> str:
    """Return the kind of a resource of AWS; empty for anything else."""
    return step.type.rpartition(":")[2] if step.type.startswith("aws:") else ""


def _part(step: StepEventMetadata) -> str:
    """Return the part to which a resource belongs: its tag, or what its name begins with."""
    side = step.new if step.new is not None and step.new.inputs else step.old
    inputs = _inputs(side)
    if part := str((inputs.get("tags") or {}).get(names.PART, "")):
        return part.partition("-")[0] if part.startswith(("private-", "public-")) else part
    title = step.urn.rpartition("::")[2].partition("-")[2]
    return title.partition("-")[0] if title else "network"


def _tasks(part: str, step: StepEventMetadata, version: StepEventMetadata | None) -> Step:
    """Say what becomes of the tasks of a part."""
    action, cost = ACTIONS[step.op], _COSTS.get(part, Impact.DRAINED)
    if action == "create":
        return Step(action, "", part, _TASKS)
    if action in ("delete", "replace"):
        return Step(action, "", part, _TASKS, cost)
    old, new = _inputs(step.old), _inputs(step.new)
    before, after = old.get("desiredCount"), new.get("desiredCount")
    reasons = []
    shrinks = before is not None and after is not None and after < before
    if before != after and after is not None:
        reasons.append(f"size {before or 0:.0f} → {after:.0f}")
    different = [*_different(version)] if version is not None else []
    known = {"desiredCount", "taskDefinition"}
    others = sorted(key for key in {*old, *new} - known if old.get(key) != new.get(key))
    every = [*different, *others]
    reasons += every[:_FEW] + ([f"{len(every) - _FEW} more"] if len(every) > _FEW else [])
    if version is not None and not different:
        reasons.append("other certificates")
    replaced = version is not None or "platformVersion" in others
    return Step(action, "", part, ", ".join(reasons), cost if replaced or shrinks else Impact.NONE)


def _different(version: StepEventMetadata) -> Iterator[str]:
    """Name what is different in a new version of a task."""
    old, new = _inputs(version.old), _inputs(version.new)
    for key in ("cpu", "memory", "ephemeralStorage", "runtimePlatform", "volumes"):
        if old.get(key) != new.get(key):
            yield key
    with suppress(ValueError, TypeError, LookupError):
        [before], [after] = (json.loads(each["containerDefinitions"]) for each in (old, new))
        for key in sorted({*before, *after}):
            if before.get(key) != after.get(key) and key != "secrets":
                yield key


def _inputs(side: Any) -> Any:
    return decoded((side.inputs if side is not None else None) or {})
