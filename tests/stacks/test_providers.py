"""The providers' decisions: what is a change, and what is remembered."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pulumi.dynamic.dynamic import serialize_provider
from pulumi.runtime.rpc import UNKNOWN

import perennial.platforms.hosts
from perennial.capacity import PER_CORE
from perennial.certificates import Pair, ends, fault
from perennial.errors import FleetError
from perennial.platforms.hosts.share import shares, to_json
from perennial.platforms.local.machine import this_machine
from perennial.spec import dump, loads
from perennial.stacks import host_resources as resources
from perennial.stacks.local import LocalProvider
from perennial.stacks.room import MEANT
from perennial.stacks.turns import turns

SPEC = loads(
    "{name: lab, platform: hosts, environment: {python: /p}, workers: {cpu: {}},"
    " hosts: {machines: [ma]}}"
)
SHARE = resources.packed(to_json(shares(SPEC)["ma"]))
SECRETS = {"ca": "a", "ca_key": "b", "token": "c"}


@pytest.fixture
def deploy(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What is done to machines, to be filled in."""
    made = SimpleNamespace()
    monkeypatch.setattr(perennial.platforms.hosts, "deploy", made, raising=False)
    return made


def old(**values: Any) -> dict[str, Any]:
    outcome = {"expires": "2100-01-01T00:00:00+00:00", "machine": "1"}
    known = {"share": SHARE, "secrets": SECRETS, "drift": [], "outcome": json.dumps(outcome)}
    return {**known, **values}


def test_text_of_a_provider_is_its_name() -> None:
    text = serialize_provider(resources.ServicesProvider())
    assert text == serialize_provider(resources.ServicesProvider())
    assert len(text) < 200


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        (old(), {"share": SHARE, "secrets": SECRETS}, False),
        (old(), {"share": SHARE, "secrets": {**SECRETS, "ca": UNKNOWN}}, False),
        (old(), {"share": SHARE, "secrets": {**SECRETS, "token": "d"}}, True),
        (old(), {"share": SHARE.replace("8786", "9786"), "secrets": SECRETS}, True),
        (old(drift=["a file was edited"]), {"share": SHARE, "secrets": SECRETS}, True),
        (old(outcome='{"expires": "2020-01-01"}'), {"share": SHARE, "secrets": SECRETS}, True),
    ],
)
def test_changes(before: dict[str, Any], now: dict[str, Any], expected: bool) -> None:
    assert resources.ServicesProvider().diff("ma", before, now).changes is expected


def test_another_cluster_is_made_after_this_one_is_gone() -> None:
    other = SHARE.replace('"cluster": "lab"', '"cluster": "gpu"')
    found = resources.ServicesProvider().diff("ma", old(), {"share": other, "secrets": SECRETS})
    assert (found.changes, found.replaces, found.delete_before_replace) == (True, ["share"], True)
    wish = {"target": "{}", "wish": '{"cluster": "lab"}'}
    now = {**wish, "wish": '{"cluster": "gpu"}'}
    found = resources.EnvironmentProvider().diff("ma", wish, now)
    assert (found.changes, found.replaces, found.delete_before_replace) == (True, ["wish"], True)
    found = resources.EnvironmentProvider().diff("ma", wish, {**wish, "wish": UNKNOWN})
    assert (found.changes, found.replaces) == (False, [])


def test_missing_inputs_are_refused() -> None:
    result = resources.ServicesProvider().check({}, {"share": SHARE, "outcome": None})
    assert [failure.property for failure in result.failures] == ["secrets"]
    assert set(result.inputs) == {"share"}


def test_a_machine_that_is_off_is_drift(deploy: SimpleNamespace) -> None:
    def look(*_: Any) -> list[str]:
        raise FleetError("ma: refused the connection")

    deploy.look_services = deploy.look_environment = look
    assert resources.ServicesProvider().read("ma", old()).outs == old(
        drift=["ma: refused the connection"]
    )
    target = json.dumps(json.loads(SHARE)["target"])
    props = {"target": target, "wish": '{"python": "/p"}', "facts": "{}", "drift": []}
    found = resources.EnvironmentProvider().read("ma", props).outs
    assert found == {**props, "drift": ["ma: refused the connection"]}


@pytest.mark.parametrize(("machine", "cleaned"), [("1", []), ("2", ["old.example.org"])])
def test_another_address_may_be_the_same_machine(
    deploy: SimpleNamespace, machine: str, cleaned: list[str]
) -> None:
    removed: list[str] = []
    deploy.apply_services = lambda *_, **__: {"machine": machine, "expires": ""}
    deploy.remove_services = lambda share, _say: removed.append(share.target.address) or []
    before = json.loads(SHARE)
    before["target"]["address"] = "old.example.org"
    news = {"share": SHARE, "secrets": SECRETS}
    resources.ServicesProvider().update("ma", old(share=resources.packed(before)), news)
    assert removed == cleaned


def test_environment_drift_names_packages() -> None:
    before = {"digest": "1", "packages": {"dask": "1", "numpy": "2"}}
    now = {"digest": "2", "packages": {"dask": "2"}}
    assert resources.environment_drift(before, before) == []
    assert resources.environment_drift(before, now) == [
        "dask was 1 and is 2",
        "numpy was 2 and is missing",
    ]


def test_authority() -> None:
    provider = resources.AuthorityProvider()
    made = provider.create({"cluster": "lab"}).outs or {}
    pair = Pair(made["client"].encode(), made["client_key"].encode())
    assert fault(made["ca"].encode(), pair) is None
    assert provider.diff("lab", made, {"cluster": "lab"}).changes is False
    soon = {**made, "ends": (datetime.now(UTC) + timedelta(days=29)).isoformat()}
    assert provider.diff("lab", soon, {"cluster": "lab"}).changes is True
    renewed = provider.update("lab", soon, {"cluster": "lab"}).outs or {}
    assert (renewed["ca_key"], renewed["token"]) == (made["ca_key"], made["token"])
    assert renewed["client_key"] == made["client_key"]
    assert ends(renewed["client"].encode()) == datetime.fromisoformat(renewed["ends"])
    assert provider.diff("lab", made, {"cluster": "other"}).replaces == ["cluster"]


def test_turns() -> None:
    away = most = 0
    guard = threading.Lock()
    turn = turns("lab", 2)

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
        spec = dump(loads(f"{{name: lab, platform: local, workers: {{cpu: {{count: {count}}}}}}}"))
        found = LocalProvider().check(olds, {"spec": spec, "force": force})
        assert found.inputs == {"spec": spec, "force": force}
        return [each.reason for each in found.failures]

    [why] = failures(many, {})
    assert why.startswith(f"lab: cpu={many}: {many} worker processes with ")
    assert why.endswith(f"lower count, processes or memory, or {MEANT}")
    assert failures(many, {}, force=True) == []
    [why] = failures(99_999, {}, force=True)
    assert why.endswith("idle ones; ask for fewer")
