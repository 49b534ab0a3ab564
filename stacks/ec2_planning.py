"""What the engine's preview of a cluster on EC2 means to a person."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

from pulumi.automation.events import StepEventMetadata

from perennial.errors import PerennialError
from perennial.plan import Action, Impact, Step
from perennial.platforms.ec2.parts import SCHEDULER
from perennial.platforms.ec2.runtime import stop
from perennial.spec import ClusterSpec

from . import engine
from .planning import ACTIONS, in_pulumis_words
from .provider.values import decoded, differences

Others = dict[tuple[str, Action], set[str]]

#: What is made once for a cluster, by the beginning of its name.
_SHARED = {
    "certificates": r"authority|\w+-certificate",
    "secrets": r"\w+-secret(-version)?",
    "storage": r"bucket(-private)?|logs|volume|notebooks.*",
    "network": r"provider|vpc|domain|(private|public|routes|nat|out|internet|address|endpoint).*"
    r"|(scheduler|workers)-(group|out|from-.*)",
}
#: What belongs to the instances of one part.
_OWN = r"bundle|role|rights|place|policy-\d+|profile|template|instances"
_ALARM = r".+-(no-scheduler|no-workers|drain-overdue)(-lines)?|certificate-expiry"
#: What an update of a group's template leads to: each instance is replaced.
_TEMPLATE, _GROUP = "LaunchTemplate", "Group"
#: Properties of a group that follow from its template.
_DERIVED = ("launchTemplate", "mixedInstancesPolicy.launchTemplate.launchTemplateSpecification")
_FEW = 3


def described(spec: ClusterSpec, changes: Sequence[StepEventMetadata]) -> list[Step]:
    """List what a deployment would do, part by part."""
    keys = (SCHEDULER, *spec.workers)
    strange: list[Step] = []
    others: Others = {}
    instances: dict[str, list[StepEventMetadata]] = {}
    for step in changes:
        title = step.urn.rpartition("::")[2].removeprefix(f"{spec.name}-")
        part, kind = part_of(title), kind_of(step)
        if not part:
            strange.append(in_pulumis_words(step))
        elif kind in (_TEMPLATE, _GROUP) and title.endswith(("-template", "-instances")):
            instances.setdefault(part, []).append(step)
        else:
            others.setdefault((part, ACTIONS[step.op]), set()).add(kind)
    found = list(strange)
    gone = sorted({*instances, *(part for part, _ in others)} - {*_SHARED, *keys, "alarms"})
    for part in (*_SHARED, *keys, *gone, "alarms"):
        found += [
            Step(action, "", part, ", ".join(sorted(kinds)))
            for (other, action), kinds in others.items()
            if other == part
        ]
        found += _instances(part, instances.get(part, ()))
    return found


def part_of(title: str) -> str:
    """Return the part that a resource belongs to, by its name; empty for none. Pure."""
    if re.fullmatch(_ALARM, title):
        return "alarms"
    for part, pattern in _SHARED.items():
        if re.fullmatch(pattern, title):
            return part
    own = re.fullmatch(rf"(?P<key>.+?)-({_OWN})", title)
    if own is None:
        return ""
    return SCHEDULER if own["key"] == "scaler" else own["key"]


def kind_of(step: StepEventMetadata) -> str:
    """Return the kind of a resource, such as LaunchTemplate."""
    return engine.kind_of(step.type) or step.type.rpartition(":")[2]


def _instances(part: str, steps: Sequence[StepEventMetadata]) -> list[Step]:
    """Say what becomes of the instances of a part, in one step."""
    if not steps:
        return []
    cost = Impact.LOSES_WORK if part == SCHEDULER else Impact.DRAINED
    by_kind = {kind_of(step): step for step in steps}
    group, made = by_kind.get(_GROUP), by_kind.get(_TEMPLATE)
    if group is not None and group.op != "update":
        action = ACTIONS[group.op]
        lost = Impact.NONE if action == "create" else cost
        return [Step(action, "", part, "instances", lost)]
    changed = _changed(made) if made is not None else []
    if changed and made is not None:
        why = ["another bundle" if path == "userData" else path for path in changed]
        return [Step("replace", "", part, f"each instance: {_few(why)}", cost)]
    paths = [path for path in _changed(group) if not path.startswith(_DERIVED)]
    if group is None or not paths:
        return []
    old, new = _size(group.old), _size(group.new)
    shrinks = old is not None and new is not None and new < old
    told = [f"size {old} → {new}" if path == "desiredCapacity" else path for path in paths]
    return [Step("update", "", part, _few(told), cost if shrinks else Impact.NONE)]


def _few(words: Sequence[str]) -> str:
    more = [f"{len(words) - _FEW} more"] if len(words) > _FEW else []
    return ", ".join([*words[:_FEW], *more])


def _changed(step: StepEventMetadata | None) -> list[str]:
    """List the properties of a resource that change."""
    if step is None or step.op == "create":
        return []
    found = [path for path, _ in differences(_inputs(step.old), _inputs(step.new))]
    return [path for path in found if not path.startswith("__")]


def _inputs(side: Any) -> Mapping[str, Any]:
    known: Mapping[str, Any] = decoded((side.inputs if side is not None else None) or {})
    return known


def _size(side: Any) -> int | None:
    found = _inputs(side).get("desiredCapacity")
    return None if found is None else int(found)


def stop_scheduler(spec: ClusterSpec, _had: Collection[str], say: Callable[[str], None]) -> None:
    """Stop the scheduler before all the rest: no member then drains for those that go as well."""
    with suppress(PerennialError):  # what is in the way is said when it is removed
        say("stopping the scheduler")
        stop(spec)
