"""What one machine has to know of a cluster: the part of its cluster file that concerns it. Pure.

It holds nothing of other machines but the scheduler's address, so that a change elsewhere leaves it
equal; only the machine of the scaler has all groups and all members. It is what a deployment is
given for a machine, compares and remembers, so it is written as values of JSON. Until it is read,
any value in it may be one that is not known yet, such as an `Output` of Pulumi's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from json import dumps, loads
from typing import Any, Literal, NotRequired, Self, TypedDict

from pydantic import Field, PrivateAttr, ValidationError, model_validator

from perennial.errors import Fault, SpecError
from perennial.platforms.hosts.assignment import Assignment
from perennial.platforms.hosts.environment import python
from perennial.platforms.hosts.keys import Path
from perennial.platforms.hosts.machines import Address, Machine, Reach
from perennial.services import Service
from perennial.spec import ClusterSpec, WorkerGroup, plain
from perennial.spec.faults import Explainer
from perennial.spec.models import GroupName, Jupyter
from perennial.spec.scaling import Scaler
from perennial.spec.strict import Model
from perennial.spec.tree import read_tree
from perennial.spec.units import Refusal
from perennial.spec.words import key_path, show

#: Values of JSON, of which some may not be known yet.
Tree = Mapping[str, Any]
Values = dict[str, Any]

#: Keys of the file that a cluster's services have in common.
_COMMON = ("protocol", "security", "dask", "env", "umask", "scheduler")


class MachineCluster(ClusterSpec):
    """The keys of a cluster file that concern one machine."""

    platform: Literal["hosts"] = "hosts"
    workers: dict[GroupName, WorkerGroup] = Field(default_factory=dict)
    jupyter: Jupyter | None = None
    scaler: Scaler | None = None

    #: Groups that were described already: many machines have the same ones.
    _described: dict[Any, Service] = PrivateAttr(default_factory=dict)

    @property
    def described(self) -> dict[Any, Service]:
        """Groups that were described already, by site and name."""
        return self._described

    @model_validator(mode="after")
    def _whole(self) -> Self:
        """Nothing: the whole file was looked at before it was divided."""
        return self


class MachineEntry(Machine):
    """How a machine is reached, with what is said for all machines."""

    known_hosts: Path | None = None
    """File of its host key."""


class Members(Model):
    """The members that machines have of each group."""

    counts: dict[GroupName, int] = Field(default_factory=dict)
    """First number of members."""

    most: dict[GroupName, int] = Field(default_factory=dict)
    """Of groups that the scaler sizes: how many may run."""


class MachineMembers(Members):
    """The members that one machine has of each group."""

    machine: str
    """Its name."""


class MachineSpec(Model):
    """What one machine has to do."""

    cluster: MachineCluster
    """The part of the cluster file that concerns it."""

    machine: MachineEntry
    """How it is reached, and where its services listen."""

    runs: list[Literal["scheduler", "jupyter"]] = Field(default_factory=list)
    """Which services run there."""

    members: Members = Field(default_factory=Members)
    """The members there."""

    everywhere: list[MachineMembers] = Field(default_factory=list)
    """The members of all machines, where the scaler runs."""

    groups: list[GroupName] = Field(default_factory=list)
    """The groups in the order of the file: mappings lose theirs on their way."""

    python: str
    """Interpreter of the services."""

    scheduler_host: Address
    """Where other machines reach the scheduler."""

    dashboard: bool = True
    """Whether the scheduler's dashboard and JupyterLab are on one machine."""

    max_unavailable: int = 1
    """Members of a group that a change may stop at the same time."""


class MachineInputs(TypedDict):
    """A `MachineSpec` as it is written, compared and remembered."""

    cluster: Values
    machine: Values
    python: Any
    runs: list[str]
    members: Values
    groups: list[str]
    scheduler_host: Any
    dashboard: bool
    max_unavailable: Any
    everywhere: NotRequired[list[Values]]


def machine_specs(spec: ClusterSpec, tree: Tree | None = None) -> dict[str, MachineInputs]:
    """Divide a cluster file among its machines, in the order of the file.

    ``tree`` is the same file, in which values may not be known yet.
    """
    tree, options = tree or plain(spec), spec.options
    assignments: Mapping[str, Assignment] = options.assignments(spec)
    entries = [_entry(tree["hosts"], index, name) for index, name in enumerate(assignments)]
    [place] = [place for place, each in enumerate(assignments.values()) if each.scheduler]
    first, given = entries[place], tree.get("environment", {})
    pythons = {
        root: given["python"] if "python" in given else python(spec, root) for root in (True, False)
    }
    found: dict[str, MachineInputs] = {}
    for entry, (name, assignment) in zip(entries, assignments.items(), strict=True):
        scales = assignment.scheduler and bool(spec.scaled)
        runs = [each for each in ("scheduler", "jupyter") if getattr(assignment, each)]
        found[name] = {
            "cluster": _cluster(spec, tree, assignment, scales),
            "machine": entry,
            "python": pythons[entry.get("init") != "supervisord"],
            "runs": runs,
            "members": _members(spec, assignment),
            "groups": [group for group in spec.workers if scales or group in assignment.counts],
            "scheduler_host": first.get("internal", first["address"]),
            "dashboard": [*assignments.values()][place].jupyter,
            "max_unavailable": tree["hosts"].get("max_unavailable", 1),
        }
        if scales:
            every = {one: _members(spec, each) for one, each in assignments.items() if each.counts}
            found[name]["everywhere"] = [{"machine": one, **own} for one, own in every.items()]
    return found


def _entry(options: Tree, index: int, name: str) -> Values:
    own = options["machines"][index]
    own = dict(own) if isinstance(own, Mapping) else {"address": own}
    own.pop("roles", None)
    common = {key: options[key] for key in (*Reach.model_fields, "known_hosts") if key in options}
    if {"identity", "private_key"} & own.keys():  # its own key, in whichever way it is given
        common = {key: common[key] for key in common if key not in ("identity", "private_key")}
    if "jump" in own:
        common.pop("jump_host_key", None)
    return {**common, **own, "name": name}


def _members(spec: ClusterSpec, assignment: Assignment) -> Values:
    most = {group: assignment.most[group] for group in assignment.counts if group in spec.scaled}
    return {"counts": dict(assignment.counts), "most": most}


def _cluster(spec: ClusterSpec, tree: Tree, assignment: Assignment, scales: bool) -> Values:
    """Choose the keys that concern a machine."""
    found = {"name": spec.name, **{key: tree[key] for key in _COMMON if key in tree}}
    if not assignment.scheduler and "scheduler" in found:  # others need its address alone
        found["scheduler"] = {k: v for k, v in found["scheduler"].items() if k == "port"}
    groups = {name: group or {} for name, group in tree["workers"].items()}
    found["workers"] = {
        # Bounds are the scaler's; to whom a group's members listen, `members` says.
        name: _without(group, "count" if scales else "count scale")
        for name, group in groups.items()
        if scales or name in assignment.counts
    }
    if assignment.jupyter:
        found["jupyter"] = tree.get("jupyter") or {}
    if scales:
        found["scaler"] = tree.get("scaler") or {}
    return found


def _without(group: Tree, keys: str) -> Values:
    return {key: value for key, value in group.items() if key not in keys.split()}


def read(values: Tree) -> MachineSpec:
    """Read what `machine_specs` has made, once every value is known."""
    groups = values.get("groups", [])
    own = {key: in_order(each, groups) for key, each in values.get("members", {}).items()}
    cluster = _read_cluster(dumps(values["cluster"], sort_keys=True), tuple(groups))
    known = {**values, "members": own, "cluster": {"name": cluster.name}}
    try:
        found = MachineSpec.model_validate(known)
    except ValidationError as error:
        raise SpecError([*_faults(error, values)]) from None
    return found.model_copy(update={"cluster": cluster})


def entry(values: Tree) -> MachineEntry:
    """Read how a machine is reached, once every value is known."""
    try:
        return MachineEntry.model_validate(dict(values))
    except ValidationError as error:
        raise SpecError([*_faults(error, {"machine": values})]) from None


def in_order(values: Tree, keys: Sequence[str]) -> Values:
    """Put a mapping in the order of some keys; what is not among them comes last, by its name."""
    return {
        key: values[key] for key in (*keys, *sorted(values.keys() - set(keys))) if key in values
    }


@lru_cache(64)
def _read_cluster(text: str, groups: tuple[str, ...]) -> MachineCluster:
    """Read the part of a cluster file, which is the same for many machines."""
    values = loads(text, parse_float=_number)
    values["workers"] = in_order(values.get("workers", {}), groups)
    try:
        return MachineCluster.model_validate(values)
    except ValidationError as error:
        explainer = Explainer(read_tree("{}"), "hosts", {"platform": "hosts", **values})
        raise SpecError(explainer.explain(error)) from None


def _number(text: str) -> float | int:
    """Read a number, whole ones as such: on their way they may have become floats."""
    number = float(text)
    return int(number) if number.is_integer() else number


def _faults(error: ValidationError, values: Tree) -> Iterator[Fault]:
    """Say what is wrong with a value that was not known when the file was looked at."""
    name = values["machine"].get("name")
    for one in error.errors(include_url=False):
        at = [step for step in one["loc"] if step != "machine"]
        path = key_path(["hosts", "machines", *at]).replace("machines", f"machines[{name}]", 1)
        for refusal in one.get("ctx", {}).get("refusals") or [Refusal(one["msg"], "correct it")]:
            found = refusal.found or show(one["input"])
            yield Fault(path, found, refusal.allowed, refusal.fix)
