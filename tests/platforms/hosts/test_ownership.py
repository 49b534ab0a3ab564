"""A machine remembers which stack has deployed it; another one must mean to take it over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from perennial.errors import FleetError
from perennial.files import write_json
from perennial.paths import cluster_state
from perennial.platforms.hosts import deploy, provision, resizing
from perennial.platforms.hosts.agent import manifest, store
from perennial.platforms.hosts.agent.answers import Manifest
from perennial.platforms.hosts.machine_services import services_by_machine
from perennial.platforms.hosts.operator import Operator
from perennial.platforms.hosts.ownership import NOBODY, Owner, refuse_other_stack
from perennial.state import UP
from tests.platforms.hosts.clusters import spec_of

DEV = Owner("1", "infra/dev", "add --force")


@pytest.mark.parametrize(
    ("known", "owner", "other"),
    [
        ({}, DEV, ""),
        ({"owner": "2"}, DEV, ""),  # an earlier version has deployed it
        ({"owner": "2", "stack": "infra/dev"}, DEV, ""),  # the state was lost, or is being changed
        ({"owner": "1", "stack": "infra/old"}, DEV, ""),  # the stack was renamed
        ({"owner": "2", "stack": "infra/old"}, DEV, "infra/old"),
        ({"owner": "2", "stack": UP}, DEV, UP),
        ({"stack": "infra/old"}, Owner(stack="infra/dev"), "infra/old"),
        ({"owner": "2", "stack": UP}, Owner("1"), ""),
        ({"owner": "2", "stack": UP}, NOBODY, ""),
    ],
)
def test_whose_a_machine_is(known: Manifest, owner: Owner, other: str) -> None:
    assert owner.other_stack(known) == other


@pytest.mark.parametrize(
    ("stack", "said"),
    [
        (
            "infra/prod",
            "ma: Pulumi's stack infra/prod owns lab there; rename this cluster, take that one down"
            " with `pulumi destroy`, or, to take it over, add --force",
        ),
        (
            UP,
            "ma: `perennial up` owns lab there; rename this cluster, take that one down with"
            " `perennial down`, or, to take it over, add --force",
        ),
    ],
)
def test_a_refusal_names_the_machine_the_owner_and_the_ways_out(stack: str, said: str) -> None:
    with pytest.raises(FleetError) as caught:
        refuse_other_stack("ma", "lab", {"stack": stack}, DEV)
    assert str(caught.value) == said
    refuse_other_stack("ma", "lab", {"stack": stack}, Owner("1", "infra/dev"))  # it is meant


class Machine:
    """An agent whose machine's state is a folder; whatever changes it is written down."""

    changed: list[str]

    def __init__(self, *_: Any, **__: Any) -> None:
        self.changed = []

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def ask(self, do: str, **asked: Any) -> Any:
        if do == "manifest":
            return manifest.known(**asked)
        if do == "machine":
            return {"cores": 64, "memory": 2**40, "available": 2**40}
        if do == "begin":
            return store.begin(**asked)
        if do not in ("lock", "unlock", "members"):
            self.changed.append(do)
        return {}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "s"))
    monkeypatch.setattr(manifest, "STATE", tmp_path)
    made = Machine()
    for module in (deploy, provision, resizing):
        monkeypatch.setattr(module, "borrowed", lambda *_, **__: made)
    return made


def owned_by(owner: Owner) -> None:
    write_json(manifest.path("lab"), {"init": "systemd", **owner.remembered})


def test_up_refuses_before_anything_is_made(machine: Machine) -> None:
    spec = spec_of()
    operator = Operator(spec, cluster_state(spec.name))
    resizing.check_room(operator, spec)
    owned_by(Owner("2", UP))
    resizing.check_room(operator, spec)  # its own state was lost
    owned_by(DEV)
    with pytest.raises(FleetError, match="machine-a: Pulumi's stack infra/dev owns lab there"):
        resizing.check_room(operator, spec)
    resizing.check_room(operator, spec, force=True)


def test_scale_changes_nothing_of_another_stack(machine: Machine) -> None:
    """It would write the keys of here, of another authority, onto the machine."""
    spec = spec_of()
    operator = Operator(spec, cluster_state(spec.name))
    sizes, said = {"cpu": 3}, "machine-a: Pulumi's stack infra/dev owns lab there; .*up --force`"
    owned_by(DEV)
    for force in (False, True):
        with pytest.raises(FleetError, match=said):
            resizing.scale(operator, sizes, print, force)
    assert machine.changed == []


def test_not_even_an_environment_is_made_on_the_machine_of_another(machine: Machine) -> None:
    owned_by(Owner("2", UP))
    assigned = services_by_machine(spec_of())["machine-a"]
    with pytest.raises(FleetError, match="machine-a: `perennial up` owns lab there"):
        deploy.make_environment(
            assigned.target, {"kind": "requirements", "cluster": "lab"}, owner=DEV
        )
    assert machine.changed == []


def test_what_another_stack_has_taken_over_is_neither_stopped_nor_removed(
    machine: Machine,
) -> None:
    owned_by(DEV)
    assigned = services_by_machine(spec_of())["machine-a"]
    deploy.stop_scheduler(assigned, print, Owner(stack=UP))
    assert deploy.remove_services(assigned, print, Owner(stack=UP)) == []
    assert machine.changed == []
    deploy.remove_services(assigned, print, Owner(DEV.resource))
    assert machine.changed == ["take_down"]


def test_the_owner_is_remembered_until_another_one_is(machine: Machine) -> None:
    for owner in (DEV, NOBODY, Owner("3")):
        store.begin("lab", [], [], [], owner.remembered)
    assert (manifest.known("lab")["owner"], manifest.known("lab")["stack"]) == ("3", "infra/dev")
