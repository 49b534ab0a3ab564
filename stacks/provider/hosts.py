"""The resources of a machine that is reached over SSH: its Python environment and its services.

What is done there stands in `perennial.platforms.hosts.deploy`, which is imported on use: it is the
one part that tests replace.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import fields, replace
from typing import Any, ClassVar, Literal
from uuid import uuid4

from perennial import capacity, sizes
from perennial.capacity import Use
from perennial.errors import PerennialError, SpecError
from perennial.platforms.hosts import libraries, machine_spec
from perennial.platforms.hosts.agent.answers import Outcome
from perennial.platforms.hosts.environment import EnvironmentSpec
from perennial.platforms.hosts.environment import state as environment_folder
from perennial.platforms.hosts.machine_services import (
    MachineServices,
    Target,
    environment_spec,
    from_json,
    services_of,
    to_json,
)
from perennial.platforms.hosts.machine_services import target as share_target
from perennial.platforms.hosts.ownership import NOBODY, Owner
from perennial.platforms.hosts.plan import MachineState, fingerprints, steps
from perennial.spec import ClusterSpec
from perennial.state import UP

from ..rollout import slots
from .authority import ends_soon
from .kinds import MEANT, HalfMadeError, Kind, Made, Refusal, Say, State, lost, missing, refused
from .remembered import EnvironmentOutputs, ServicesOutputs
from .values import Values, is_known

# Threads ask for it from the beginning.
libraries.load()


class HostEnvironment(Kind):
    """Makes the Python environment on a machine."""

    type: ClassVar[str] = "perennial:index:HostEnvironment"
    ignored: ClassVar[tuple[str, ...]] = ("claims", "force", "stack", "target.connect_timeout")
    computed: ClassVar[tuple[str, ...]] = ("facts", "drift")
    identity: ClassVar[tuple[str, ...]] = ("environment.cluster",)

    def check(self, _old: Values, new: Values) -> tuple[Values, Sequence[Refusal]]:
        """Refuse inputs that are missing, and a machine that cannot be reached in that way."""
        if lacking := missing(("target", "environment"), new):
            return new, lacking
        try:
            if is_known(new["target"]):
                target(new)
        except SpecError as error:
            return new, refused(error)
        return new, ()

    def upgraded(self, state: State) -> State:
        """Read what dynamic providers have remembered: texts in JSON."""
        inputs, outputs = state.inputs, state.outputs
        if old := _earlier(state, "wish"):
            inputs = {"target": _compact(old["target"]), "environment": _compact(old["wish"])}
        if isinstance(outputs.get("facts"), str):
            outputs = {"facts": json.loads(outputs["facts"]), "drift": outputs.get("drift") or []}
        return State(inputs, outputs)

    def pending(self, state: State, _new: Values) -> Sequence[str]:
        """Mend what was found to be other."""
        return ["drift"] if EnvironmentOutputs.read(state.outputs).drift else []

    def create(self, new: Values, say: Say) -> Made:
        """Make it."""
        from perennial.platforms.hosts import deploy

        deploy.reach(target(new), say)
        return Made(new["target"]["name"], self._made(new, say, _owner(new)).values())

    def read(self, state: State, _say: Say) -> Values:
        """Look what it is now; a machine that is off must not keep the others from being mended."""
        from perennial.platforms.hosts import deploy

        had = EnvironmentOutputs.read(state.outputs)
        facts: Mapping[str, Any] = had.facts or {}
        try:
            found = deploy.look_environment(target(state.inputs), environment(state.inputs), facts)
        except PerennialError as error:
            return replace(had, drift=[str(error)]).values()
        drift = ["the Python environment is gone"] if found is None else changed(facts, found)
        return replace(had, drift=drift).values()

    def update(self, state: State, new: Values, say: Say) -> Values:
        """Make the new one; the old one goes when nothing runs in it any more."""
        from perennial.platforms.hosts import deploy

        deploy.reach(target(new), say)
        made = self._made(new, say)
        before = EnvironmentOutputs.read(state.outputs).machine
        # Another address can well be the same machine: only the machine's own id tells.
        if before and before != made.machine:
            self.delete(state, say)  # what services there need stays until they are removed
        return made.values()

    def delete(self, state: State, _say: Say) -> None:
        """Remove it."""
        from perennial.platforms.hosts import deploy

        deploy.remove_environment(target(state.inputs), environment(state.inputs))

    def _made(self, new: Values, say: Say, owner: Owner = NOBODY) -> EnvironmentOutputs:
        from perennial.platforms.hosts import deploy

        where, named = target(new), _named(new["target"]["name"], say)
        wanted, claims = environment(new), new.get("claims") or ()
        return EnvironmentOutputs(deploy.make_environment(where, wanted, named, claims, owner))


class HostServices(Kind):
    """Deploys the services of a machine."""

    type: ClassVar[str] = "perennial:index:HostServices"
    ignored: ClassVar[tuple[str, ...]] = ("force", "machine.connect_timeout")
    derived: ClassVar[tuple[str, ...]] = ("digest",)
    computed: ClassVar[tuple[str, ...]] = ("outcome", "drift", "owner")
    stable: ClassVar[tuple[str, ...]] = ("owner",)
    identity: ClassVar[tuple[str, ...]] = ("cluster.name",)

    def check(self, old: Values, new: Values) -> tuple[Values, Sequence[Refusal]]:
        """Refuse what is wrong, and what the machine cannot hold.

        What this version makes of the same inputs is an input as well: it changes with an upgrade.
        """
        if lacking := missing(("cluster", "machine", "secrets"), new):
            return new, lacking
        if not is_known(_described(new)):
            return new, ()
        try:
            wanted = wanted_services(new)
        except SpecError as error:
            return new, refused(error)
        checked = {**new, "digest": digest(wanted)}
        why = self._refusal(wanted, old, checked)
        return checked, [Refusal("machine", why)] if why else ()

    def upgraded(self, state: State) -> State:
        """Read what dynamic providers have remembered: services as they were rendered."""
        inputs, outputs = state.inputs, state.outputs
        old = _earlier(state, "share")
        if old:
            known = old.get("secrets")  # an event of the engine's does not show them
            secrets = {k: v for k, v in known.items() if v} if isinstance(known, dict) else {}
            had = digest(from_json(json.loads(old["share"])))
            inputs = {"legacy": old["share"], "digest": had, "secrets": secrets}
        if isinstance(outputs.get("outcome"), str):
            outcome = json.loads(outputs["outcome"])
            outputs = {"outcome": outcome, "drift": outputs.get("drift") or []}
        return State(inputs, outputs, partial=bool(old))

    def compared(self, state: State, new: Values) -> tuple[Values, Values]:
        """Compare what this version makes of the inputs; the others say why it differs."""
        had, new = state.inputs, dict(new)
        if "stack" not in had:  # to an earlier version; a machine learns it with the next change
            new.pop("stack", None)
        if "digest" in new and had.get("digest") == new["digest"]:
            keys = new.keys() & {"secrets", "stack"}
            return {key: had.get(key) for key in keys}, {key: new[key] for key in keys}
        return super().compared(state, new)

    def pending(self, state: State, _new: Values) -> Sequence[str]:
        """Mend what was found to be other, and renew certificates in time."""
        had = ServicesOutputs.read(state.outputs)
        renews = not had.outcome or ends_soon(had.outcome.get("expires"))
        return (["drift"] if had.drift else []) + (["outcome"] if renews else [])

    def warnings(self, state: State, new: Values) -> Sequence[str]:
        """Return what people lose by a change."""
        if not state.inputs or not new:
            return ()
        machine = new["machine"]["name"]
        return lost(machine, steps(machine, machine_state(state), machine_state(State(new))))

    def create(self, new: Values, say: Say) -> Made:
        """Deploy them for the first time; what was begun on a machine is remembered."""
        from perennial.platforms.hosts import deploy

        wanted = wanted_services(new)
        deploy.reach(wanted.target, say)
        name, owner = wanted.target.name, uuid4().hex[:12]
        try:
            outcome = self._applied(wanted, new, _owner(new, owner), say)
        except PerennialError as error:
            half = ServicesOutputs({}, [str(error)], owner)
            raise HalfMadeError(Made(name, half.values()), str(error)) from None
        return Made(name, ServicesOutputs(outcome, owner=owner).values())

    def read(self, state: State, _say: Say) -> Values:
        """Look what became of them."""
        from perennial.platforms.hosts import deploy

        had = ServicesOutputs.read(state.outputs)
        if not had.outcome:
            return state.outputs  # they were never whole
        try:
            drift = deploy.look_services(wanted_services(state.inputs), had.outcome)
        except PerennialError as error:
            drift = [str(error)]
        return replace(had, drift=drift).values()

    def update(self, state: State, new: Values, say: Say) -> Values:
        """Change them; a machine that was left for another one of the same name is cleaned."""
        from perennial.platforms.hosts import deploy

        had = ServicesOutputs.read(state.outputs)
        owner = had.owner or uuid4().hex[:12]
        wanted = wanted_services(new)
        deploy.reach(wanted.target, say)
        if wanted_services(state.inputs).target.needs_root != wanted.target.needs_root:
            # They are in other folders, under another service manager, and on the same ports.
            self.delete(state, say)
            _leave(state)
        outcome = self._applied(wanted, new, _owner(new, owner), say)
        before = had.outcome.get("machine")
        # Another address can well be the same machine: only the machine's own id tells.
        if before and before != outcome.get("machine"):
            self.delete(state, say)
            _leave(state)
        return ServicesOutputs(outcome, owner=owner).values()

    def delete(self, state: State, say: Say) -> None:
        """Drain them, stop them and remove what they needed, unless another resource owns them."""
        from perennial.platforms.hosts import deploy

        had = wanted_services(state.inputs)
        named = _named(had.target.name, say)
        owner = Owner(ServicesOutputs.read(state.outputs).owner or had.target.name)
        for left in deploy.remove_services(had, named, owner):
            named(f"left in place: {left}", keep=True)  # see `perennial.stacks.events.LEFT`

    def _applied(self, wanted: MachineServices, new: Values, owner: Owner, say: Say) -> Outcome:
        from perennial.platforms.hosts import deploy
        from perennial.platforms.hosts.secrets import Secrets

        named = _named(wanted.target.name, say)
        turn = slots(wanted.cluster, wanted.max_unavailable)
        secrets = Secrets(**{key: value for key, value in new["secrets"].items() if value})
        outcome = deploy.apply_services(wanted, secrets, named, turn=turn, owner=owner)
        return {**outcome, "services": fingerprints(wanted, outcome["init"])}

    def _refusal(self, wanted: MachineServices, old: Values, new: Values) -> str:
        """Say why a machine cannot have what is new there; empty where it can."""
        from perennial.platforms.hosts.resizing import Asked, refuse_services

        before = self.upgraded(State(old)).inputs if old else {}
        if before.get("digest") == new["digest"]:
            return ""
        uses = _uses(new)
        asked = Asked(uses, _uses(before) or uses, meant=_meant(new))
        try:
            # What is known already may be of a stack that was renamed: the resource tells then.
            refuse_services(wanted, asked, NOBODY if old else _owner(new))
        except PerennialError as error:
            return str(error)
        return ""


class _named:  # noqa: N801  (a function that remembers)
    """Names the machine before what is said of it."""

    def __init__(self, machine: str, say: Say) -> None:
        self._machine, self._say = machine, say

    def __call__(self, text: str, keep: bool = False) -> None:
        from perennial.plan import ABANDONED

        mark = "!" if keep or ABANDONED in text else ""
        self._say(f"{mark}{self._machine}: {text}")


def _owner(new: Values, resource: str = "") -> Owner:
    """Say who deploys to a machine."""
    return Owner(resource, new.get("stack", ""), _meant(new))


def _meant(new: Values) -> str:
    """Say how what is refused is meant; empty where it is."""
    if new.get("force"):
        return ""
    return capacity.MEANT if new.get("stack") == UP else MEANT


def environment_inputs(
    spec: ClusterSpec, values: machine_spec.MachineInputs, assigned: MachineServices
) -> Values:
    """Say how a machine is reached, and what Python environment it needs."""
    needed = {
        key: value for key, value in environment_spec(spec, assigned).items() if value is not None
    }
    if needed["kind"] == "python":
        needed["python"] = values["python"]  # which may not be known yet
    entry = values["machine"]
    reached = {each.name: entry[each.name] for each in fields(Target) if each.name in entry}
    return {"target": reached, "environment": needed}


def target(values: Values) -> Target:
    """Read how a machine is reached."""
    return share_target(machine_spec.entry(values["target"]))


def environment(values: Values) -> EnvironmentSpec:
    """Read what environment a machine needs; what is None is not in the engine's state."""
    found: EnvironmentSpec = copy(values["environment"])
    if found.get("kind") == "requirements":
        found.setdefault("wheelhouse", None)
    return found


def wanted_services(values: Values) -> MachineServices:
    """Read what a machine has to do."""
    if "legacy" in values:
        return from_json(json.loads(values["legacy"]))
    return services_of(machine_spec.read(_described(values)))


def _described(values: Values) -> Values:
    """Choose the inputs that describe a machine."""
    return {key: values[key] for key in machine_spec.MachineSpec.model_fields if key in values}


def digest(wanted: MachineServices) -> str:
    """Say in 16 letters what is deployed to a machine."""
    text = json.dumps(to_json(wanted), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def machine_state(state: State) -> MachineState:
    """Describe what a machine has, or shall have, for a plan."""
    outcome = ServicesOutputs.read(state.outputs).outcome
    if not state.inputs:
        return MachineState()
    return MachineState(
        to_json(wanted_services(state.inputs)),
        members=outcome.get("members"),
        init=outcome.get("init"),
        services=outcome.get("services"),
    )


def changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say what became of an environment, one line each."""
    if before.get("digest") == now.get("digest"):
        return []
    old, new = before.get("packages", {}), now.get("packages", {})
    lines = [
        f"{name} was {old.get(name, 'missing')} and is {new.get(name, 'missing')}"
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]
    return lines or ["the Python environment changed"]


def _uses(values: Values) -> dict[str, Use]:
    """Say what a member of each group may use."""
    if "cluster" not in values:
        return {}
    with suppress(SpecError):
        return sizes.of_each(machine_spec.read(_described(values)).cluster)
    return {}


def _leave(state: State) -> None:
    """Remove the environment of a machine that its resource has left for another one."""
    from perennial.platforms.hosts import deploy

    had = wanted_services(state.inputs)
    python = had.services[0].command.argv[0] if had.services else ""
    made = python.startswith(f"{environment_folder(had.cluster, had.target.needs_root)}/")
    kind: Literal["python", "requirements"] = "requirements" if made else "python"
    gone: EnvironmentSpec = {"kind": kind, "python": python, "needs": [], "cluster": had.cluster}
    deploy.remove_environment(had.target, gone)  # which leaves one that was there before


def _earlier(state: State, key: str) -> Values:
    """Return what an earlier version remembers; empty where this one has written the inputs."""
    old = {**state.outputs, **state.inputs}
    return old if key in old and not {"machine", "environment"} & state.inputs.keys() else {}


def _compact(text: str) -> Values:
    """Read a text in JSON as it is written now: without what is None."""
    return {key: value for key, value in json.loads(text).items() if value is not None}
