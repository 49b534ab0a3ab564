"""What the engine's preview of a cluster on Kubernetes means to a person."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

from pulumi.automation.events import StepEventMetadata

from perennial.errors import PerennialError
from perennial.plan import Action, Impact, Step
from perennial.platforms.kubernetes import names
from perennial.platforms.kubernetes.manifests import manifests
from perennial.platforms.kubernetes.options import PRELOADS
from perennial.platforms.kubernetes.runtime import stop
from perennial.platforms.kubernetes.secrets import contents
from perennial.spec import ClusterSpec

from . import engine
from .planning import ACTIONS, in_pulumis_words
from .provider.values import decoded, differences

Tree = Mapping[str, Any]

#: Kinds of objects, by part and by what is done to them.
Others = dict[tuple[str, Action], set[str]]

#: What it costs when the pods of a part are replaced; a group's drain first.
_COSTS = {
    "scheduler": Impact.LOSES_WORK,
    "jupyter": Impact.KERNELS,
    "scaler": Impact.NONE,
}
_PODS = "pods"
#: What follows from another thing: the reason is that one's.
_DERIVED = f'spec.template.metadata.annotations["{names.FINGERPRINT}"]'
#: Paths that a reason names.
_FEW = 3


def described(spec: ClusterSpec, changes: Sequence[StepEventMetadata]) -> list[Step]:
    """List what a deployment would do, part by part."""
    found: list[Step] = []
    pods: dict[str, Step] = {}
    others: Others = {}
    for step in changes:
        kind, part = _object(step)
        own = engine.kind_of(step.type)
        if own in ("Authority", "Certificate"):
            others.setdefault(("certificates", ACTIONS[step.op]), set()).add(own)
        elif kind == "Deployment":
            pods[part] = _pods(part, step)
        elif kind:
            where = "secrets" if kind == "Secret" else part
            others.setdefault((where, ACTIONS[step.op]), set()).add(kind)
        else:
            found.append(in_pulumis_words(step))
    return [*found, *_ordered(spec, pods, others)]


def first(spec: ClusterSpec) -> list[Step]:
    """List what the first deployment of a cluster would do.

    The engine would try each object at the API server, where nobody may bind a role that is not
    there yet.
    """
    pods, others = {}, Others({("certificates", "create"): {"Authority", "Certificate"}})
    if contents(spec):
        others["secrets", "create"] = {"Secret"}
    for part, objects in manifests(spec).items():
        kinds = {each["kind"] for each in objects}
        if "Deployment" in kinds:
            pods[part] = Step("create", "", part, _PODS)
        others[part, "create"] = kinds - {"Deployment"}
    return _ordered(spec, pods, others)


def _ordered(spec: ClusterSpec, pods: Mapping[str, Step], others: Others) -> list[Step]:
    """List the steps part by part: what the pods are made with, then the pods."""
    order = ["certificates", "secrets", PRELOADS, "scheduler", *spec.workers, "jupyter", "scaler"]
    gone = sorted({*pods, *(part for part, _ in others)} - {*order})
    found: list[Step] = []
    for part in (*order, *gone):
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


def _object(step: StepEventMetadata) -> tuple[str, str]:
    """Return kind and part of an object of Kubernetes; empty for anything else."""
    if not step.type.startswith("kubernetes:"):
        return "", ""
    side = step.new if step.new is not None and step.new.inputs else step.old
    about = ((side.inputs if side is not None else None) or {}).get("metadata") or {}
    return step.type.rpartition(":")[2], str((about.get("labels") or {}).get(names.PART, ""))


def _pods(part: str, step: StepEventMetadata) -> Step:
    """Say what becomes of the pods of a part."""
    action, cost = ACTIONS[step.op], _COSTS.get(part, Impact.DRAINED)
    if action == "create":
        return Step(action, "", part, _PODS)
    if action in ("delete", "replace"):
        return Step(action, "", part, _moved(step), cost)
    old, new = _inputs(step.old), _inputs(step.new)
    paths = [path for path, _ in differences(old, new)]
    chosen = [path for path in paths if path != _DERIVED] or paths
    replaced = any(path.startswith("spec.template") for path in paths)
    before, after = _size(old), _size(new)
    shrinks = before is not None and after is not None and after < before
    reasons = [f"size {before} → {after}"] if before != after and after is not None else []
    reasons += [_short(path) for path in chosen if path != "spec.replicas"]
    if not paths:  # Pulumi found it before its pods were ready, and waits for them once more
        reasons = ["its pods were not ready"]
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
    if path.endswith(".configMap.name"):
        return "other preloads"
    for start in ("spec.template.spec.", "spec.template.metadata.", "spec."):
        if path.startswith(start):
            return path.removeprefix(start)
    return path


def _moved(step: StepEventMetadata) -> str:
    """Say why it cannot stay: another name, or nobody wants it."""
    before, after = (_object_name(side) for side in (step.old, step.new))
    return f"{before} → {after}" if before and after and before != after else _PODS


def _object_name(side: Any) -> str:
    return str((_inputs(side).get("metadata") or {}).get("name", ""))
