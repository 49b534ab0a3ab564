"""How a machine is reached, from the cluster file to what is compared, shown and remembered."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from perennial.errors import SpecError
from perennial.platforms.hosts import deploy, machine_services, remote
from perennial.platforms.hosts.deployer import HostsDeployer
from perennial.platforms.hosts.machine_services import MachineServices, Target
from perennial.platforms.hosts.machine_spec import entry
from perennial.platforms.hosts.plan import MachineState, steps
from perennial.platforms.hosts.remote import borrowed
from perennial.spec import parse
from perennial.ssh import UnreachableError, keys
from tests.platforms.hosts.clusters import machines, spec_of
from tests.spec.strategies import HOST_KEY
from tests.ssh.sshd import MISSING, Place, keygen, make_place
from tests.ssh.test_waiting import later

pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    yield from make_place(monkeypatch)
    remote.close()


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two private keys."""
    folder = tmp_path_factory.mktemp("keys")
    return [keygen(folder / name).read_text() for name in ("one", "two")]


def by_machine(*own: Any, **common: Any) -> list[MachineServices]:
    named = [{"address": f"m{place}", **each} for place, each in enumerate(own)]
    return [*machine_services.services_by_machine(spec_of(machines(*named, **common))).values()]


def test_a_machine_of_its_own(private: list[str]) -> None:
    own = {"host_key": HOST_KEY, "connect_timeout": "2 min"}
    a, b = (
        assigned.target
        for assigned in by_machine(
            {"roles": ["scheduler"]},
            {"roles": ["cpu"], **own},
            host_key=keys.ACCEPT_NEW,
            connect_timeout="90 s",
            private_key=private[0],
        )
    )
    assert (a.host_key, a.connect_timeout) == (keys.ACCEPT_NEW, 90.0)
    assert (b.host_key, b.connect_timeout) == (HOST_KEY, 120.0)
    assert a.private_key == b.private_key == private[0]


def test_a_machines_own_key_stands_alone(private: list[str]) -> None:
    """In whichever way it is given; and its own jump host has not the key of another one."""
    common = {"identity": "~/.ssh/all", "jump": "bastion", "jump_host_key": HOST_KEY}
    a, b = (
        assigned.target
        for assigned in by_machine(
            {"roles": ["scheduler"], "private_key": private[0]},
            {"roles": ["cpu"], "jump": "other"},
            **common,
        )
    )
    assert (a.identity, a.private_key) == (None, private[0])
    assert (b.identity, b.private_key) == ("~/.ssh/all", None)
    assert (a.jump_host_key, b.jump_host_key) == (HOST_KEY, None)


def test_what_is_written_of_a_share_holds_no_key(private: list[str]) -> None:
    [assigned] = by_machine({"private_key": private[0], "host_key": HOST_KEY, "connect_timeout": 5})
    text = json.dumps(machine_services.to_json(assigned))
    assert private[0].splitlines()[2] not in text
    assert private[0].splitlines()[2] not in repr(assigned)
    assert machine_services.from_json(json.loads(text)).target.host_key == HOST_KEY
    # What earlier versions did not know is there only where it is given: else all would be updated.
    [plain] = by_machine({})
    assert not {"private_key", "host_key", "jump_host_key", "connect_timeout"} & set(
        machine_services.to_json(plain)["target"]
    )


def planned(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    [before], [after] = by_machine(old), by_machine(new)
    found = steps(
        "m0",
        MachineState(machine_services.to_json(before)),
        MachineState(machine_services.to_json(after)),
    )
    return [f"{step.action} {step.resource}: {step.reason}" for step in found]


def test_a_plan_says_which_key_it_is_and_shows_no_private_one(private: list[str]) -> None:
    assert planned({"private_key": private[0]}, {"private_key": private[1]}) == [
        "update connection: the private key for its SSH is another one now"
    ]
    assert planned({}, {"host_key": HOST_KEY}) == [
        f"update connection: its host key is {keys.fingerprints(HOST_KEY)} now"
    ]
    assert planned({"host_key": HOST_KEY}, {"host_key": keys.ACCEPT_NEW}) == [
        "update connection: its host key is accept-new now"
    ]
    assert planned({"connect_timeout": "5 s"}, {"connect_timeout": "9 s"})[1:] == []


def test_a_private_key_in_a_file_is_refused_by_its_place(private: list[str]) -> None:
    """Its text would be remembered in clear; a program hands it over as a secret."""
    data = machines({"address": "m0", "private_key": private[0]}, private_key=private[1])
    document = parse(json.dumps(data), "lab.yaml")
    errors, warnings = HostsDeployer("hosts").faults(document)
    assert [fault.path for fault in errors] == [
        "hosts.private_key",
        "hosts.machines[0].private_key",
    ]
    assert not warnings
    shown = "".join(fault.render("lab.yaml") for fault in errors)
    assert "write the path of a file that only you read as identity" in shown
    assert private[0].splitlines()[2] not in shown


def test_what_only_a_deployment_knows_is_refused_without_being_shown() -> None:
    text = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIP\n-----END"
    for key in ("private_key", "host_key", "identity"):
        with pytest.raises(SpecError) as caught:
            entry({"name": "vm", "address": "10.0.0.1", key: text})
        assert f"hosts.machines[vm].{key}: found" in str(caught.value)
        assert "MHcC" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="the login must be root's: there is no sudo")
def test_a_deployment_waits_and_whoever_looks_does_not(place: Place) -> None:
    target = Target("vm", "127.0.0.1", port=place.sshd.port, connect_timeout=60.0)
    place.sshd.stop()
    with pytest.raises(UnreachableError, match="refused the connection"), borrowed(target):
        pass
    said: list[str] = []
    with later(place, 2.0):
        deploy.reach(target, said.append)
    assert said[0].startswith("waiting for vm (127.0.0.1): connection refused, 0 s of 60 s")
    with borrowed(target) as agent:
        assert agent.alive
