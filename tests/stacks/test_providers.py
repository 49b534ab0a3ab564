"""The providers' decisions: what is a change, and what is remembered."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pulumi.runtime.rpc import UNKNOWN

import perennial.platforms.hosts
from perennial.capacity import PER_CORE
from perennial.certificates import Pair, ends, fault
from perennial.errors import FleetError, PerennialError
from perennial.paths import cluster_state
from perennial.platforms.hosts.machine_spec import machine_specs
from perennial.platforms.hosts.ownership import NOBODY, Owner
from perennial.platforms.local.deploy import make_secrets
from perennial.platforms.local.machine import this_machine
from perennial.spec import dump, loads, plain
from perennial.stacks.provider.authority import Authority
from perennial.stacks.provider.hosts import (
    HostEnvironment,
    HostServices,
    changed,
    digest,
    wanted_services,
)
from perennial.stacks.provider.kinds import MEANT, HalfMadeError, State
from perennial.stacks.provider.local import LocalServices, credentials
from perennial.stacks.provider.values import differences
from perennial.stacks.rollout import slots
from perennial.state import Stack

SPEC = loads(
    "{name: lab, platform: hosts, environment: {python: /p}, workers: {cpu: {}},"
    " hosts: {machines: [ma]}}"
)
SECRETS = {"ca": "a", "ca_key": "b", "token": "c"}
INPUTS = {**machine_specs(SPEC)["ma"], "secrets": SECRETS}
#: What this version makes of them.
INPUTS["digest"] = digest(wanted_services(INPUTS))


@pytest.fixture
def deploy(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What is done to machines, to be filled in."""
    made = SimpleNamespace(reach=lambda *_: None)
    monkeypatch.setattr(perennial.platforms.hosts, "deploy", made, raising=False)
    return made


def outputs(**values: Any) -> dict[str, Any]:
    outcome = {"expires": "2100-01-01T00:00:00+00:00", "machine": "1"}
    return {"drift": [], "outcome": outcome, **values}


def test_earlier_resources_are_found_by_their_names() -> None:
    """Dynamic providers stand in a state as the names of their classes."""
    for module, name in (
        ("host_resources", "AuthorityProvider"),
        ("host_resources", "EnvironmentProvider"),
        ("host_resources", "ServicesProvider"),
        ("local", "LocalProvider"),
    ):
        made = getattr(import_module(f"perennial.stacks.{module}"), name)()
        assert made.diff("", {}, {}).changes is False


@pytest.mark.parametrize(
    ("found", "pending"),
    [
        (outputs(), []),
        (outputs(drift=["a file was edited"]), ["drift"]),
        (outputs(outcome={"expires": "2020-01-01"}), ["outcome"]),
        (outputs(outcome={}), ["outcome"]),
    ],
)
def test_what_has_to_be_done_though_nothing_else_is_asked(
    found: dict[str, Any], pending: list[str]
) -> None:
    assert list(HostServices().pending(State(INPUTS, found), INPUTS)) == pending


def test_an_input_says_what_this_version_makes_of_the_others() -> None:
    kind = HostServices()
    checked, refusals = kind.check(INPUTS, {**INPUTS, "digest": "another"})
    assert (checked, list(refusals)) == (INPUTS, [])
    changed, _ = kind.check(INPUTS, {**INPUTS, "scheduler_host": "mb"})
    assert changed["digest"] != INPUTS["digest"]
    unknown = {**INPUTS, "scheduler_host": UNKNOWN}
    assert kind.check(INPUTS, unknown) == (unknown, ())


@pytest.mark.parametrize(
    ("change", "path", "said"),
    [
        (
            {"cluster": {"name": "lab", "jupyter": {}, "workers": {"cpu": {"memory": "4 Gib"}}}},
            None,
            None,
        ),
        (
            {"cluster": {"name": "lab", "jupyter": {}, "workers": {"cpu": {"memory": "4 XB"}}}},
            "workers.cpu.memory",
            "found '4 XB'; allowed: a size such as 8 GiB",
        ),
        (
            {"machine": {"name": "ma", "address": "ops@ma"}},
            "hosts.machines[ma].address",
            "found 'ops@ma'; allowed: an IP address or a host name",
        ),
    ],
)
def test_what_only_a_deployment_knows_is_refused_by_its_key(
    deploy: SimpleNamespace, change: dict[str, Any], path: str | None, said: str | None
) -> None:
    _, refusals = HostServices().check({}, {**INPUTS, **change})
    assert [each.property for each in refusals] == ([path] if path else [])
    assert all(str(said) in each.reason for each in refusals)


def test_missing_inputs_are_refused() -> None:
    _, refusals = HostServices().check({}, {key: INPUTS[key] for key in ("cluster", "machine")})
    assert [each.property for each in refusals] == ["secrets"]


def test_how_a_machine_is_reached_is_looked_at_before_it_is() -> None:
    inputs = {"target": {"name": "ma", "address": "ma"}, "environment": {"python": "/p"}}
    assert HostEnvironment().check({}, inputs) == (inputs, ())
    unknown = {**inputs, "target": {**inputs["target"], "host_key": UNKNOWN}}
    assert HostEnvironment().check({}, unknown) == (unknown, ())
    wrong = {**inputs, "target": {**inputs["target"], "host_key": "still booting"}}
    [refusal] = HostEnvironment().check({}, wrong)[1]
    assert refusal.property == "hosts.machines[ma].host_key"


def test_how_long_a_machine_is_waited_for_is_no_change() -> None:
    waits = {**INPUTS, "machine": {**INPUTS["machine"], "connect_timeout": "5 min"}}
    assert HostServices().check(INPUTS, waits)[0]["digest"] == INPUTS["digest"]
    keyed = {**INPUTS, "machine": {**INPUTS["machine"], "host_key": "accept-new"}}
    assert HostServices().check(INPUTS, keyed)[0]["digest"] != INPUTS["digest"]


def test_a_change_goes_to_a_machine_that_may_be_starting(deploy: SimpleNamespace) -> None:
    waited: list[str] = []
    deploy.reach = lambda target, _say: waited.append(target.address)
    deploy.apply_services = lambda *_, **__: {"machine": "1", "expires": "", "init": "systemd"}
    deploy.make_environment = lambda *_: {}
    HostServices().update(State(INPUTS, outputs()), INPUTS, print)
    target = {"name": "ma", "address": "other"}
    HostEnvironment().update(State(), {"target": target, "environment": {}}, print)
    assert waited == ["ma", "other"]


def test_a_machine_that_is_off_is_drift(deploy: SimpleNamespace) -> None:
    def look(*_: Any) -> list[str]:
        raise FleetError("ma: refused the connection")

    deploy.look_services = deploy.look_environment = look
    found = HostServices().read(State(INPUTS, outputs()), print)
    assert found == outputs(drift=["ma: refused the connection"])
    inputs = {"target": {"name": "ma", "address": "ma"}, "environment": {"python": "/p"}}
    environment = HostEnvironment().read(State(inputs, {"facts": {}, "drift": []}), print)
    assert environment == {"facts": {}, "drift": ["ma: refused the connection"]}


def test_what_fails_after_it_has_begun_is_remembered(deploy: SimpleNamespace) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise FleetError("ma: no space left on device")

    deploy.apply_services = fail
    with pytest.raises(HalfMadeError, match="ma: no space left") as raised:
        HostServices().create(INPUTS, print)
    assert raised.value.made.id == "ma"
    state = State(INPUTS, raised.value.made.outputs)
    assert HostServices().pending(state, INPUTS), "the next deployment finishes it"
    deploy.reach = fail
    with pytest.raises(FleetError) as refused:
        HostServices().create(INPUTS, print)
    assert not isinstance(refused.value, HalfMadeError), "nothing was begun"


@pytest.mark.parametrize(("machine", "cleaned"), [("1", []), ("2", ["old.example.org"] * 2)])
def test_another_address_may_be_the_same_machine(
    deploy: SimpleNamespace, machine: str, cleaned: list[str]
) -> None:
    removed: list[str] = []
    deploy.apply_services = lambda *_, **__: {"machine": machine, "expires": "", "init": "systemd"}
    deploy.remove_services = lambda assigned, _say, _owner: (
        removed.append(assigned.target.address) or []
    )
    deploy.remove_environment = lambda target, _wish: removed.append(target.address)
    before = {**INPUTS, "machine": {"name": "ma", "address": "old.example.org"}}
    HostServices().update(State(before, outputs()), INPUTS, print)
    assert removed == cleaned


@pytest.mark.parametrize(
    ("before", "now", "differs"),
    [
        ({}, {"stack": "p/dev"}, []),  # an earlier version has not said it: nothing changes
        ({"stack": "p/dev"}, {"stack": "p/dev"}, []),
        ({"stack": "p/dev"}, {"stack": "p/prod"}, ["stack"]),
    ],
)
def test_a_stack_that_is_renamed_tells_its_machines(
    before: dict[str, str], now: dict[str, str], differs: list[str]
) -> None:
    kind = HostServices()
    compared = kind.compared(State({**INPUTS, **before}), {**INPUTS, **now})
    assert [path for path, _ in differences(*compared)] == differs
    # With another change it is named only where it was known.
    other = {**INPUTS, **now, "python": "/q", "digest": "another"}
    found = [path for path, _ in differences(*kind.compared(State({**INPUTS, **before}), other))]
    assert sorted(found) == sorted(["digest", "python", *differs])


def test_a_machine_is_told_who_deploys_it(deploy: SimpleNamespace) -> None:
    told: list[Owner] = []
    made = {"machine": "1", "expires": "", "init": "systemd"}
    deploy.apply_services = lambda *_, owner, **__: told.append(owner) or made
    deploy.make_environment = lambda *given: told.append(given[-1]) or {}
    new = {**INPUTS, "stack": "p/dev"}
    had = outputs(owner="1")
    HostServices().update(State(INPUTS, had), new, print)
    HostServices().update(State(INPUTS, had), {**new, "force": True}, print)
    environment = {"target": {"name": "ma", "address": "ma"}, "environment": {}, "stack": "p/dev"}
    HostEnvironment().create(environment, print)
    HostEnvironment().update(State(environment, {}), environment, print)
    meant = Owner("1", "p/dev", MEANT)
    assert told == [meant, replace(meant, meant=""), replace(meant, resource=""), NOBODY]


def test_environment_drift_names_packages() -> None:
    before = {"digest": "1", "packages": {"dask": "1", "numpy": "2"}}
    now = {"digest": "2", "packages": {"dask": "2"}}
    assert changed(before, before) == []
    assert changed(before, now) == ["dask was 1 and is 2", "numpy was 2 and is missing"]


def test_authority() -> None:
    kind, inputs = Authority(), {"cluster": "lab"}
    made = kind.create(inputs, print).outputs
    pair = Pair(made["client"].encode(), made["client_key"].encode())
    assert fault(made["ca"].encode(), pair) is None
    assert kind.pending(State(inputs, made), inputs) == []
    soon = {**made, "ends": (datetime.now(UTC) + timedelta(days=29)).isoformat()}
    assert kind.pending(State(inputs, soon), inputs) == ["ends"]
    renewed = kind.update(State(inputs, soon), inputs, print)
    assert all(renewed[key] == made[key] for key in kind.stable)
    assert ends(renewed["client"].encode()) == datetime.fromisoformat(renewed["ends"])


def test_turns() -> None:
    away = most = 0
    guard = threading.Lock()
    turn = slots("lab", 2)

    def member() -> None:
        nonlocal away, most
        with turn("cpu"):
            with guard:
                away += 1
                most = max(most, away)
            time.sleep(0.02)
            with guard:
                away -= 1

    threads = [threading.Thread(target=member) for _ in range(8)]
    for thread in threads:
        thread.start()
    with turn("gpu"):
        pass  # another group has its own turns
    for thread in threads:
        thread.join()
    assert most == 2


def test_local_refuses_what_this_machine_cannot_hold(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    has = this_machine()
    many = min(has.most, has.cores * PER_CORE + 1)

    def failures(count: int, olds: dict[str, Any], force: bool = False) -> list[str]:
        spec = loads(f"{{name: lab, platform: local, workers: {{cpu: {{count: {count}}}}}}}")
        inputs = {"cluster": plain(spec), "force": force}
        found, refusals = LocalServices().check(olds, inputs)
        assert found == inputs
        return [each.reason for each in refusals]

    [why] = failures(many, {})
    assert why.startswith(f"lab: cpu={many}: {many} worker processes with ")
    assert why.endswith(f"lower count, processes or memory, or {MEANT}")
    assert failures(many, {}, force=True) == []
    [why] = failures(99_999, {}, force=True)
    assert why.endswith("idle ones; ask for fewer")


@pytest.mark.parametrize(
    ("owner", "said"),
    [
        (None, "lab: `perennial up` owns it; rename this cluster, take that one down with `peren"),
        (Stack("dev", "/other"), "lab: Pulumi's stack dev in /other owns it; rename this cluster"),
    ],
)
def test_local_refuses_what_another_stack_deploys(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, owner: Stack | None, said: str
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    spec = loads("{name: lab, platform: local, workers: {cpu: {count: 1}}}")
    inputs, paths = {"cluster": plain(spec), "stack": "dev"}, cluster_state("lab")
    kind = LocalServices()
    assert kind.check({}, inputs)[1] == ()
    paths.root.mkdir(parents=True)
    paths.spec.write_text(dump(spec))
    if owner is not None:
        owner.save(paths)
    [refusal] = kind.check({}, inputs)[1]
    assert refusal.reason.startswith(said)
    assert refusal.reason.endswith(f", or, to take it over, {MEANT}")
    with pytest.raises(PerennialError, match="owns it"):
        kind.create(inputs, print)
    assert not (paths.root / "owner").exists()
    # Meant, known already, or its own that this state has lost.
    assert kind.check({}, {**inputs, "force": True})[1] == ()
    assert kind.check({"cluster": {}}, inputs)[1] == ()
    Stack("dev", str(tmp_path)).save(paths)
    assert kind.check({}, inputs)[1] == ()


def test_another_resource_may_own_what_this_one_has_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A component by another name: the new resource is made before the old one is deleted."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    paths = cluster_state("lab")
    paths.root.mkdir(parents=True)
    paths.spec.write_text("name: lab\n")
    (paths.root / "owner").write_text("new")
    said: list[str] = []
    state = State({"cluster": {"name": "lab"}}, {"owner": "old"})
    LocalServices().delete(state, said.append)
    assert said == ["!lab: another resource owns this cluster by now; it stays"]
    assert paths.spec.exists()


def test_a_cluster_of_an_earlier_version_tells_its_certificates_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its connection names files; what is in them comes with the next deployment."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    outputs = {"connection": {"cluster": "lab"}, "drift": [], "owner": "1"}
    assert LocalServices().pending(State({}, outputs), {}) == ["credentials"]
    spec = loads("{name: lab, platform: local, workers: {cpu: {count: 1}}}")
    paths = cluster_state("lab")
    make_secrets(spec, paths)
    known = credentials(spec, paths)
    assert known["tls"]["key"] == (paths.tls / "client-key.pem").read_text()
    assert known["token"] == (paths.secrets / "jupyter-token").read_text()
    assert LocalServices().pending(State({}, {**outputs, "credentials": known}), {}) == []
