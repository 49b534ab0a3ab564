"""Sizes that a machine cannot hold are refused by the command line, which asks the machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from perennial.capacity import PER_CORE, MachineResources, Use, gib, total
from perennial.cli import app
from perennial.errors import FleetError
from perennial.paths import ClusterPaths, cluster_state
from perennial.platforms.hosts import deploy, remote, resizing
from perennial.platforms.hosts.agent.machine import this_machine
from perennial.platforms.hosts.machine_services import services_by_machine
from perennial.platforms.hosts.machine_spec import machine_specs
from perennial.platforms.hosts.resizing import Asked, Standing
from perennial.sizes import of_each
from perennial.spec import ClusterSpec, dump
from perennial.stacked import StackDeployer
from perennial.stacks import engine, hosts, planning
from perennial.stacks.provider.hosts import HostServices
from perennial.stacks.provider.kinds import MEANT
from tests.platforms.hosts.clusters import machines, spec_of
from tests.ssh.sshd import MISSING, Place, make_place

GIB = 2**30
over_ssh = [
    pytest.mark.skipif(bool(MISSING), reason=MISSING),
    pytest.mark.skipif(os.geteuid() != 0, reason="the login must be root's: there is no sudo"),
]


class DeployedError(Exception):
    """The engine was asked to deploy."""


class Driver:
    """The engine, which would need machines of its own."""

    PartlyError = type("PartlyError", (Exception,), {})

    def find_command(self) -> None:
        pass

    def up(self, *_: Any, **__: Any) -> None:
        raise DeployedError


PARTS = {"driver": Driver(), "planning": planning, "engine": engine, "hosts": hosts}


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(StackDeployer, "_part", lambda _self, name: PARTS[name])
    yield from make_place(monkeypatch)
    remote.close()


def too_many() -> int:
    """A number of members that this machine cannot hold, but could while they do nothing."""
    has = this_machine()
    return min(has.most, has.cores * PER_CORE + 1)


def clustered(place: Place, **groups: dict[str, Any]) -> dict[str, Any]:
    machine = {"address": "127.0.0.1", "name": "machine-b", "port": place.sshd.port}
    return {**machines(machine), "workers": groups or {"cpu": {"count": 1000}}}


def run(place: Place, data: dict[str, Any], *words: str) -> Any:
    file = place.root / "cluster.yaml"
    file.write_text(yaml.safe_dump(data))
    files = ["-f", str(file)] if words[0] in ("plan", "up") else []
    return CliRunner().invoke(app, [*words, *files])


def remembered(spec: ClusterSpec) -> ClusterPaths:
    paths = cluster_state(spec.name)
    paths.root.mkdir(parents=True)
    paths.spec.write_text(dump(spec))
    return paths


class TestOverSsh:
    pytestmark = over_ssh

    def test_a_first_size_is_refused_with_the_machine_and_the_numbers(self, place: Place) -> None:
        has, many = this_machine(), too_many()
        data = clustered(place, cpu={"count": many})
        done = run(place, data, "up", "--yes")
        assert isinstance(done.exception, FleetError)
        said = str(done.exception)
        assert said.startswith(f"machine-b: cpu={many}: {many} worker processes with ")
        assert f"allowed: what machine-b holds, {has.cores} core" in said
        assert said.endswith("lower count, processes or memory, or add --force")
        assert "\n" not in said
        assert not cluster_state("lab").root.exists()
        # The plan shows all the same what it would be.
        done = run(place, data, "plan")
        assert f"{many} of cpu" in done.output
        assert str(done.exception) == f"`perennial up` would refuse this: {said}"
        assert isinstance(run(place, data, "up", "--yes", "--force").exception, DeployedError)

    def test_nobody_can_mean_more_than_the_machine_holds_idle(self, place: Place) -> None:
        has = this_machine()
        for force in ([], ["--force"]):
            done = run(place, clustered(place, cpu={"count": 9000}), "up", "--yes", *force)
            assert isinstance(done.exception, FleetError)
            assert str(done.exception) == (
                f"machine-b: cpu=9000: 9,000 worker processes; machine-b's {gib(has.memory)} hold"
                f" at most {has.most:,} idle ones; ask for fewer"
            )
        data = clustered(place, cpu={"count": 1, "memory": "1 MiB"})
        remembered(spec_of(data))
        done = run(place, data, "scale", "cpu=9000", "--force")
        assert str(done.exception).startswith("machine-b: cpu=9000: 9,000 worker processes;")

    def test_pulumi_refuses_the_same_before_anything_is_changed(self, place: Place) -> None:
        spec = spec_of(clustered(place, cpu={"count": too_many()}))
        small = spec_of(clustered(place, cpu={"count": 1, "memory": "1 MiB"}))

        def values(of: ClusterSpec, force: bool = False) -> dict[str, Any]:
            return {**machine_specs(of)["machine-b"], "secrets": {}, "force": force}

        def failures(olds: dict[str, Any], news: dict[str, Any]) -> list[str]:
            known = HostServices().check({}, {**olds, "force": True})[0] if olds else {}
            return [each.reason for each in HostServices().check(known, news)[1]]

        [why] = failures({}, values(spec))
        assert why.startswith(f"machine-b: cpu={too_many()}: {too_many()} worker processes with ")
        assert why.endswith(f"lower count, processes or memory, or {MEANT}")
        assert failures(values(small), values(spec)) == [why]
        # Meant, unchanged, of an earlier release, or what fits.
        assert failures({}, values(spec, force=True)) == []
        assert failures(values(spec), values(spec)) == []
        assert failures({}, values(small)) == []
        # Idle they had no room either.
        [why] = failures({}, values(spec_of(clustered(place, cpu={"count": 9000})), force=True))
        assert why.endswith("idle ones; ask for fewer")

    def test_what_the_machine_holds_is_deployed(self, place: Place) -> None:
        fits = clustered(place, cpu={"count": 1, "memory": "1 MiB"})
        assert isinstance(run(place, fits, "up", "--yes").exception, DeployedError)
        # The largest size of a group that the scaler sizes is bounded by what its machines say.
        scaled = {"count": 1, "memory": "1 MiB", "scale": {"max": 5000}}
        done = run(place, clustered(place, cpu=scaled), "up", "--yes")
        assert isinstance(done.exception, DeployedError)

    def test_a_size_is_refused_before_anything_is_changed(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = clustered(place, cpu={"count": 1, "memory": "1 MiB"})
        remembered(spec_of(data))
        applied: list[Any] = []
        monkeypatch.setattr(deploy, "apply_services", lambda *_, **how: applied.append(how))
        many = too_many()
        done = run(place, data, "scale", f"cpu={many}")
        assert str(done.exception).startswith(f"machine-b: cpu={many}: {many} worker processes")
        assert applied == []
        monkeypatch.setattr(
            "perennial.platforms.hosts.operator.Operator.secrets", lambda _self: None
        )
        done = run(place, data, "scale", f"cpu={many}", "--force")
        assert (done.exception, done.output) == (None, f"lab: cpu 0 → {many}\n")
        assert [how["scaled"] for how in applied] == [{"cpu": many}]


def test_the_limits_of_all_groups_on_a_machine_add_up() -> None:
    spec = spec_of(
        workers={
            "cpu": {"count": 4, "memory": "2 GiB", "processes": 2},
            "gpu": {"count": 1, "memory": "8 GiB"},
        },
        hosts={"machines": ["machine-a.example.org"]},
    )
    [assigned] = services_by_machine(spec).values()
    found = total(use * assigned.counts[name] for name, use in of_each(spec).items())
    assert found == Use(9, 24 * GIB)
    machine = MachineResources(2, 34 * GIB, 34 * GIB)
    empty = Standing(machine, {})
    asked = Asked(of_each(spec), of_each(spec))
    resizing.refuse(assigned, empty, assigned.counts, asked)
    with pytest.raises(FleetError, match=r"^machine-a: cpu=5, gpu=1: 11 worker processes with 28"):
        resizing.refuse(assigned, empty, {"cpu": 5, "gpu": 1}, asked)
    # What stands already may stay, whoever has meant it; and more of it may not come.
    meant = Standing(machine, {"sizes": {"cpu": 5}, "numbers": {"gpu": [3]}})
    resizing.refuse(assigned, meant, {"cpu": 5, "gpu": 1}, asked)
    with pytest.raises(FleetError, match="cpu=6"):
        resizing.refuse(assigned, meant, {"cpu": 6, "gpu": 1}, asked)


def test_services_count_where_they_stand() -> None:
    spec = spec_of(scheduler={"memory": "3 GiB"}, workers={"cpu": {"scale": {"max": 9}}})
    found = {name: assigned.beside for name, assigned in services_by_machine(spec).items()}
    assert spec.jupyter is not None
    assert spec.scaler is not None
    assert found["machine-a"] == 3 * GIB + spec.jupyter.memory + spec.scaler.memory
    assert found["machine-b"] == 0


def test_a_machine_is_read_without_any_library(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 2000 kB\nMemAvailable: 1000 kB\nHugePages: 0\n")
    (tmp_path / "loadavg").write_text("1.50 1.0 0.5 2/300 7\n")
    found = this_machine(tmp_path)
    assert (found.memory, found.available, found.load) == (2_048_000, 1_024_000, 1.5)
    assert 1 <= found.cores <= len(os.sched_getaffinity(0))
