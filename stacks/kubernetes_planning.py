"""What the engine's preview of a cluster on Kubernetes means to a person."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

from pulumi.automation.events import StepEventMetadata

from perennial.errors import PerennialError
from perennial.plan import Action, Impact, Step
from perennial.platforms.kubernetes import names
from perennial.platforms.kubernetes.runtime import stop
from perennial.spec import ClusterSpec

from . import engine
from .planning import ACTIONS, in_pulumis_words
from .provider.values import decoded, differences

Tree = Mapping[str, Any]

#: What follows from another thing: the reason is that one's.
_DERIVED = f'spec.template.metadata.annotations["{names.FINGERPRINT}"]'
#: Paths that a reason names.
_FEW = 3


def described(spec: ClusterSpec, changes: Sequence[StepEventMetadata]) -> list[Step]:
    """List what a deployment would do, part by part: its pods, then what they are made with."""
    found: list[Step] = []
    pods: dict[str, Step] = {}
    others: dict[tuple[str, Action], list[str]] = {}
    for step in changes:
        kind, _, part = _object(step)
        if engine.kind_of(step.type) in ("Authority", "Certificate"):
            others.setdefault(("certificates", ACTIONS[step.op]), []).append(_called(step))
        elif kind == "Deployment":
            pods[part] = _pods(spec, part, step)
        elif kind:
            own = "secrets" if kind == "Secret" else part
            others.setdefault((own, ACTIONS[step.op]), []).append(kind)
        else:
            found.append(in_pulumis_words(step))
    order = ["certificates", "secrets", "scheduler", *spec.workers, "jupyter", "scaler"]
    parts = sorted({*pods, *(part for part, _ in others)} - {*order})
    for part in (*order, *parts):
        found += [
            Step(action, "", part, ", ".join(sorted(kinds)))
            for (other, action), kinds in others.items()
            if other == part
        ]
        found += [pods[part]] if part in pods else []
    return found


def stop_scheduler(spec: ClusterSpec, _had: Collection[str], say: Callable[[str], None]) -> None:
    """Stop the scheduler before all the rest: no member then drains for those that go as well."""
    with suppress(PerennialError):  # what is in the way is said when it is removed
        say("stopping the scheduler")
        stop(spec, "scheduler")


def _object(step: StepEventMetadata) -> tuple[str, str, str]:
    """Return kind, name and part of an object of Kubernetes; empty for anything else."""
    if not step.type.startswith("kubernetes:"):
        return "", "", ""
    side = step.new if step.new is not None and step.new.inputs else step.old
    about = ((side.inputs if side is not None else None) or {}).get("metadata") or {}
    part = (about.get("labels") or {}).get(names.PART, "")
    return step.type.rpartition(":")[2], str(about.get("name", "")), str(part)


def _called(step: StepEventMetadata) -> str:
    return step.urn.rpartition("::")[2]


def _pods(spec: ClusterSpec, part: str, step: StepEventMetadata) -> Step:
    """Say what becomes of the pods of a part."""
    action, role = ACTIONS[step.op], part if part in ("scheduler", "jupyter", "scaler") else ""
    cost = {
        "scheduler": Impact.LOSES_WORK,
        "jupyter": Impact.KERNELS,
        "scaler": Impact.NONE,
    }.get(role, Impact.DRAINED)
    if action == "create":
        return Step(action, "", part, "pods")
    if action in ("delete", "replace"):
        return Step(action, "", part, _moved(step), cost)
    old, new = _inputs(step.old), _inputs(step.new)
    paths = [path for path, _ in differences(old, new)]
    told = [path for path in paths if path != _DERIVED] or paths
    replaced = any(path.startswith("spec.template") for path in paths)
    before, after = _size(old), _size(new)
    shrinks = before is not None and after is not None and after < before
    reasons = [f"size {before} → {after}"] if before != after and after is not None else []
    reasons += [_short(path) for path in told if path != "spec.replicas"]
    more = [f"{len(reasons) - _FEW} more"] if len(reasons) > _FEW else []
    lost = cost if replaced or shrinks else Impact.NONE
    return Step(action, "", part, ", ".join([*reasons[:_FEW], *more]), lost)


def _inputs(side: Any) -> Any:
    return decoded((side.inputs if side is not None else None) or {})


def _size(inputs: Tree) -> int | None:
    found = (inputs.get("spec") or {}).get("replicas")
    return None if found is None else int(found)


def _short(path: str) -> str:
    """Name a property of a pod without the way to it."""
    for start in ("spec.template.spec.", "spec.template.metadata.", "spec."):
        if path.startswith(start):
            return path.removeprefix(start)
    return path


def _moved(step: StepEventMetadata) -> str:
    """Say why it cannot stay: another name, or nobody wants it."""
    before, after = (_object_name(side) for side in (step.old, step.new))
    return f"{before} → {after}" if before and after and before != after else "pods"


def _object_name(side: Any) -> str:
    return str((_inputs(side).get("metadata") or {}).get("name", ""))
