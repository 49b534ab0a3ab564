"""A cluster on the machine that runs Pulumi, as one resource."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import ClassVar
from uuid import uuid4

import yaml

from perennial.errors import PerennialError, SpecError
from perennial.files import make_private, write_atomic
from perennial.paths import ClusterPaths, cluster_state
from perennial.spec import ClusterSpec, parse
from perennial.state import Stack, command

from .kinds import MEANT, HalfMadeError, Kind, Made, Refusal, Say, State, lost, missing, refused
from .remembered import LocalOutputs
from .values import Values, is_known


class LocalServices(Kind):
    """Starts, changes and stops a cluster on this machine."""

    type: ClassVar[str] = "perennial:index:LocalServices"
    ignored: ClassVar[tuple[str, ...]] = ("force", "stack")
    secrets: ClassVar[tuple[str, ...]] = ("credentials",)
    computed: ClassVar[tuple[str, ...]] = ("connection", "credentials", "drift", "owner")
    stable: ClassVar[tuple[str, ...]] = ("owner",)
    identity: ClassVar[tuple[str, ...]] = ("cluster.name",)

    def check(self, old: Values, new: Values) -> tuple[Values, Sequence[Refusal]]:
        """Refuse what is wrong, and what this machine cannot hold."""
        from perennial.platforms.local import deploy

        if lacking := missing(("cluster",), new):
            return new, lacking
        if not is_known(new) or old.get("cluster") == new["cluster"]:
            return new, ()
        try:
            if not old:
                _refuse_other_stack(new)
            deploy.check_room(read(new), force=bool(new.get("force")), meant=MEANT)
        except SpecError as error:
            return new, refused(error)
        except PerennialError as error:
            return new, [Refusal("cluster", str(error))]
        return new, ()

    def upgraded(self, state: State) -> State:
        """Read what dynamic providers have remembered: the cluster file as a text."""
        old = {**state.outputs, **state.inputs}
        if "spec" not in old or "cluster" in state.inputs:
            return state
        cluster = yaml.safe_load(old["spec"])
        return State({"cluster": cluster}, {"drift": old.get("drift") or []}, partial=True)

    def pending(self, state: State, new: Values) -> Sequence[str]:
        """Mend what was found to be other, and tell what an earlier version did not."""
        had = LocalOutputs.read(state.outputs)
        found = ["drift"] if had.drift else []
        if "stack" in new and Stack.load(cluster_state(new["cluster"]["name"])) is None:
            found.append("owner")  # an earlier version has not noted it, or it was disconnected
        outputs = {"connection": had.connection, "credentials": had.credentials}
        return found + [key for key, value in outputs.items() if value is None]

    def warnings(self, _state: State, new: Values) -> Sequence[str]:
        """Return what people lose by a change."""
        from perennial.platforms.local import deploy
        from perennial.supervision.plan import steps

        spec = read(new)
        return lost(spec.name, steps(deploy.prepare(spec, None, lambda _: None).steps))

    def create(self, new: Values, say: Say) -> Made:
        """Start the cluster; what was begun is remembered."""
        name, owner = new["cluster"]["name"], uuid4().hex[:12]
        _refuse_other_stack(new)
        try:
            return Made(name, _applied(new, owner, say).values())
        except PerennialError as error:
            if not _begun(cluster_state(name), owner):
                raise
            half = LocalOutputs(drift=[str(error)], owner=owner)
            raise HalfMadeError(Made(name, half.values()), str(error)) from None

    def read(self, state: State, say: Say) -> Values:
        """Look what is not as the cluster file says."""
        from perennial.platforms.local import deploy

        spec = read(state.inputs)
        deployment = deploy.prepare(spec, None, say)
        had = LocalOutputs.read(state.outputs)
        drift = [f"{step.name}: {step.reason}" for step in deployment.steps]
        if deploy.secrets_missing(spec, deployment.paths):
            drift.append("certificates or token are missing")
            return replace(had, drift=drift).values()
        # `perennial rotate` makes other certificates.
        now = credentials(spec, deployment.paths)
        return replace(had, credentials=now, drift=drift).values()

    def update(self, state: State, new: Values, say: Say) -> Values:
        """Change what runs into what the cluster file says."""
        owner = LocalOutputs.read(state.outputs).owner or uuid4().hex[:12]
        return _applied(new, owner, say).values()

    def delete(self, state: State, say: Say) -> None:
        """Stop the cluster; certificates, token, logs and notebooks stay."""
        from perennial.lock import exclusive
        from perennial.platforms.local import deploy
        from perennial.platforms.local.operate import take_down

        name = state.inputs["cluster"]["name"]
        paths = cluster_state(name)
        if not paths.spec.exists():
            return
        with exclusive(paths.lock, say):
            if not _owns(paths, LocalOutputs.read(state.outputs).owner):
                say(f"!{name}: another resource owns this cluster by now; it stays")
                return
            take_down(deploy.find(name, say), purge=False)
            _owner(paths).unlink(missing_ok=True)


def _owner(paths: ClusterPaths) -> Path:
    """File that says which resource has deployed a cluster last."""
    return paths.root / "owner"


def _owns(paths: ClusterPaths, owner: str) -> bool:
    file = _owner(paths)
    return not owner or not file.exists() or file.read_text(encoding="utf-8") == owner


def _refuse_other_stack(new: Values) -> None:
    """Refuse a cluster that stands here and is deployed by others, unless that is meant."""
    name = new["cluster"]["name"]
    paths = cluster_state(name)
    if new.get("force") or "stack" not in new or not paths.spec.exists():
        return
    stack = Stack.load(paths)
    if stack == Stack(new["stack"], os.getcwd()):
        return
    who = "`perennial up`" if stack is None else f"Pulumi's stack {stack}"
    raise PerennialError(
        f"{name}: {who} owns it; rename this cluster, take that one down with"
        f" {command('down', name)}, or, to take it over, {MEANT}"
    )


def _begun(paths: ClusterPaths, owner: str) -> bool:
    """Whether a deployment that failed has left something, which is then its owner's."""
    file = _owner(paths)
    if not file.exists() or file.read_text(encoding="utf-8") != owner:
        return False
    if not paths.spec.exists():
        file.unlink()
        paths.stack.unlink(missing_ok=True)
        return False
    return True


def _applied(new: Values, owner: str, say: Say) -> LocalOutputs:
    from perennial.lock import exclusive
    from perennial.platforms.local import deploy

    spec = read(new)
    paths = cluster_state(spec.name)
    with exclusive(paths.lock, say):
        deploy.check_room(spec, force=bool(new.get("force")), meant=MEANT)
        deployment = deploy.prepare(spec, None, say)
        make_private(paths.root)
        write_atomic(_owner(paths), owner)
        if "stack" in new:  # the engine runs this in the folder of the program
            Stack(new["stack"], os.getcwd()).save(paths)
        if deployment.steps or deploy.secrets_missing(spec, deployment.paths):
            deploy.apply(deployment)
        else:
            deploy.settle(deployment)
    connection = deploy.connection(spec, paths).to_json()
    return LocalOutputs(connection, credentials(spec, paths), owner=owner)


def credentials(spec: ClusterSpec, paths: ClusterPaths) -> Values:
    """Return what a client proves itself with: certificates and Jupyter's token."""
    from perennial.platforms.local import deploy

    files = deploy.connection(spec, paths).tls
    parts = asdict(files) if files else {}
    tls = {part: Path(file).read_text("utf-8") for part, file in parts.items()}
    token = deploy.token_file(spec, paths).read_text("utf-8") if spec.jupyter else None
    return {"tls": tls or None, "token": token}


def read(values: Values) -> ClusterSpec:
    """Read a cluster; the files that it names were read when it was written."""
    workers = values["cluster"].get("workers", {})
    groups = values.get("groups") or sorted(workers)
    cluster = {**values["cluster"], "workers": {name: workers[name] for name in groups}}
    # As JSON: YAML's writer leaves out quotes, as those of 08:00.
    text = json.dumps(cluster, ensure_ascii=False)
    return parse(text, "inputs", remembered=True).spec
