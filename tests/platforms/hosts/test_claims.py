"""Names that two clusters on a machine would both take."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import Any

import pytest

from perennial import render
from perennial.errors import FleetError
from perennial.files import write_json
from perennial.platforms.hosts import deploy
from perennial.platforms.hosts.agent import facts, manifest, systemd
from perennial.platforms.hosts.checks import check
from perennial.platforms.hosts.claims import claims
from perennial.platforms.hosts.machine_services import MachineServices, services_by_machine
from perennial.platforms.hosts.ownership import NOBODY
from tests.platforms.hosts.clusters import arranged, spec_of


def share_of(name: str, *groups: str, **options: Any) -> MachineServices:
    machine = {"address": "machine-a", "roles": ["scheduler", "jupyter", *groups], **options}
    return services_by_machine(
        spec_of(
            name=name,
            environment={"python": "/opt/python"},
            jupyter={},
            workers={group: {} for group in groups},
            hosts={"machines": [machine]},
        )
    )["machine-a"]


def deployed(assigned: MachineServices) -> None:
    """Leave the manifest of a cluster that is there."""
    wanted = arranged(assigned)
    entry = {"units": list(wanted.units), "targets": list(wanted.targets)}
    write_json(manifest.path(assigned.cluster), {**entry, "users": list(wanted.users)})


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(manifest, "STATE", tmp_path)
    monkeypatch.setattr(systemd, "booted", lambda: True)
    return tmp_path


def test_what_is_claimed_is_what_will_be_there() -> None:
    assigned = share_of("lab", "cpu", "gpu-x")
    wanted = arranged(assigned)
    units = {
        PurePath(file.path).name
        for file in wanted.files
        if file.path.startswith(f"{render.UNITS}/")
    } - {render.slice_name("lab")}  # no other cluster can have that: its dashes are escaped
    assert set(claims(assigned)) == units | set(wanted.users)


@pytest.mark.parametrize(
    ("there", "here", "name"),
    [
        (("lab-gpu", "cpu"), ("lab", "gpu"), "dask-lab-gpu.target"),
        (("lab", "gpu"), ("lab-gpu", "cpu"), "dask-lab-gpu.target"),
        (("lab-gpu", "x"), ("lab", "gpu-x"), "dask-lab-gpu-x@.service"),
        (("lab-jupyter", "cpu"), ("lab", "gpu"), "dask-lab-jupyter"),
        (("lab", "gpu"), ("lab-jupyter", "cpu"), "dask-lab-jupyter"),
    ],
)
def test_a_name_of_another_cluster_is_refused(
    machine: Path, there: tuple[str, str], here: tuple[str, str], name: str
) -> None:
    deployed(share_of(*there))
    assigned = share_of(*here)
    found = {
        "ahead": 0.0,
        "taken": {},
        "clashes": facts.clashes(assigned.cluster, claims(assigned)),
        "manifest": {},
    }
    kind = "unit" if "." in name else "user"
    with pytest.raises(FleetError) as caught:
        check(assigned, found, NOBODY)
    assert str(caught.value) == (
        f"machine-a: the {kind} {name} of {here[0]} is also that of the cluster {there[0]} there;"
        f" rename {here[0]} or its group, or deploy it to another machine"
    )


@pytest.mark.parametrize(
    ("there", "here"),
    [
        (("lab", "gpu"), ("lab", "gpu")),  # itself
        (("lab-gpu", "cpu"), ("lab", "cpu")),
        (("lab-scheduler", "cpu"), ("lab", "cpu")),
        (("lab-cpux", "cpu"), ("lab", "cpu")),
    ],
)
def test_other_clusters_are_no_hindrance(
    machine: Path, there: tuple[str, str], here: tuple[str, str]
) -> None:
    deployed(share_of(*there))
    assigned = share_of(*here)
    assert facts.clashes(assigned.cluster, claims(assigned)) == []


def test_without_root_no_name_of_the_machines_is_taken(machine: Path) -> None:
    assert arranged(share_of("lab-gpu", "cpu", init="supervisord")).users == {}
    assigned = share_of("lab", "gpu", init="supervisord")
    deployed(share_of("lab-gpu", "cpu"))
    assert facts.clashes("lab", claims(assigned)) == []


class Refusing:
    """An agent on a machine that has another cluster; nothing but that may be asked."""

    def __enter__(self) -> Refusing:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def ask(self, name: str, cluster: str, claims: list[str]) -> Any:
        assert name == "clashes"
        return [("lab-gpu", "dask-lab-gpu.target")]


def test_not_even_an_environment_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perennial.platforms.hosts.provision.borrowed", lambda *_: Refusing())
    assigned = share_of("lab", "gpu")
    wish = {"kind": "requirements", "cluster": "lab"}
    with pytest.raises(FleetError, match=r"dask-lab-gpu\.target of lab is also that of"):
        deploy.make_environment(assigned.target, wish, print, claims(assigned))
