"""The doctor's judgement on what it finds; the whole of it runs in the lab."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from perennial import certificates
from perennial.doctor import Finding
from perennial.doctor.firewalls import Firewall, advice, rule
from perennial.platforms.hosts.agent.firewall import refusing
from perennial.platforms.hosts.doctor import clock, disk, machines, own, ports, services, versions
from perennial.platforms.hosts.survey import Seen
from tests.platforms.hosts.clusters import spec_of

PACKAGES = {"dask": "2026.8.0", "distributed": "2026.8.0", "dask-perennial": "0.2"}
HERE = {"python": "3.11.7", **PACKAGES}


def environment(version: str = "3.11.7", digest: str = "0", **packages: str) -> dict[str, Any]:
    found = {**PACKAGES, **packages}
    return {
        **{"python": "/opt/dask/bin/python", "version": version, "packages": found},
        **{"missing": [], "digest": digest},
    }


def seen(members: dict[str, Any], healthy: bool | None = None, **more: Any) -> Seen:
    manifest = {"whole": True, "members": dict.fromkeys(members, "f"), "expected": {}}
    look = {
        **{
            "manifest": manifest,
            "files": {},
            "members": members,
            "enabled": True,
            "taken": {},
            "users": [],
        },
        **{"address": "10.0.0.1"},
        **more,
    }
    return Seen(look, environment(), {}, {}, Firewall(), healthy)


RUNS = {"state": "active", "fingerprint": "f", "pid": 1, "restarts": 0}


def levels(found: list[Finding]) -> list[str]:
    return [each.level for each in found]


def test_the_same_versions_everywhere() -> None:
    (fine,) = versions({"machine-a": environment(), "machine-b": environment()}, HERE)
    assert fine.level == "ok"
    assert "distributed 2026.8.0, dask-perennial 0.2 on 2 machines, in Jupyter, and" in fine.text
    (other,) = versions(
        {"a": environment(), "b": environment(distributed="2026.7.1"), "c": environment()}, HERE
    )
    assert other.level == "error"
    assert other.text.startswith("distributed is 2026.8.0 on a, c and 2026.7.1 on b: give")
    (python,) = versions({"a": environment("3.11.7"), "b": environment("3.12.1")}, HERE)
    assert python.text.startswith("python is 3.11.7 on a and 3.12.1 on b")
    (here,) = versions({"a": environment()}, HERE | {"dask": "2026.7.1"})
    assert (here.level, here.text) == (
        "warning",
        "dask is 2026.7.1 here and 2026.8.0 there; install the same here".replace("; i", ": i"),
    )


def test_environments_that_are_gone_lack_something_or_have_more() -> None:
    (gone, lacks, broken) = versions(
        {
            "a": None,
            "b": environment() | {"missing": ["jupyterlab"]},
            "c": {"fault": "c: /opt/dask/bin/python: no working Python"},
        },
        HERE,
    )
    assert levels([gone, lacks, broken]) == ["error"] * 3
    assert "a: the Python of the services is gone" in gone.text
    assert "b: /opt/dask/bin/python lacks jupyterlab" in lacks.text
    assert broken.text.startswith("c: /opt")
    more, fine = versions({"a": environment(), "b": environment(digest="1")}, HERE)
    assert levels([more, fine]) == ["warning", "ok"]


def test_clocks() -> None:
    assert clock({"a": 0.2, "b": -1.4}) == Finding("clock", "ok", "1 s apart at most")
    little, much = clock({"a": 0.0, "b": -60.0}), clock({"a": 0.0, "b": 3600.0})
    assert (little.level, much.level) == ("warning", "error")
    assert little.text.startswith("b is 60 s behind this machine: set it right")
    assert "b is 3600 s ahead of this machine: certificates look expired" in much.text


def test_disks() -> None:
    (full, *rest) = disk({"a": {"/var/lib/dask-perennial": 2**34}, "b": {"/scratch": 2**24}})
    assert (full.level, full.text) == ("warning", "b: 16 MiB free in /scratch; make room")
    assert rest == []
    (fine,) = disk({"a": {"/var/lib/dask-perennial": 2**34}})
    assert fine.level == "ok"


def test_machines_and_ports() -> None:
    assert levels(list(machines({}, 3))) == ["ok"]
    assert [each.text for each in machines({"b": "b: no answer"}, 2)] == ["b: no answer"]
    assert ports({"a": seen({})}).level == "ok"
    taken = ports({"a": seen({}, taken={"8786": "python3 (pid 7)"})})
    assert "a: port 8786 is taken by python3 (pid 7); stop that" in taken.text


def test_the_operators_own_certificate(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    assert list(own(spec_of(), now)) == []
    pair = certificates.make_certificate(certificates.make_authority("x", now), "jupyter", (), now)
    for name, pem in (("mine.pem", pair.cert), ("mine.key", pair.key)):
        (tmp_path / name).write_bytes(pem)
    files = {"certificate": str(tmp_path / "mine.pem"), "key": str(tmp_path / "mine.key")}
    spec = spec_of(jupyter=files)
    assert levels(list(own(spec, now))) == ["ok"]
    (soon,) = own(spec, now + timedelta(days=350))
    assert soon.level == "warning"
    assert soon.text.startswith("jupyter.certificate expires on ")
    assert soon.text.endswith("; run `perennial up` with another certificate")
    (tmp_path / "mine.pem").unlink()
    (gone,) = own(spec, now)
    assert (gone.check, gone.level, len(gone.text.splitlines())) == ("jupyter", "error", 1)


def test_services() -> None:
    unit = "dask-lab-cpu@0.service"
    (fine,) = services("lab", {"a": seen({unit: RUNS}, healthy=True)})
    assert (fine.level, fine.text) == ("ok", "1 run as deployed")
    (stopped,) = services("lab", {"a": seen({unit: RUNS | {"state": "inactive"}})})
    assert stopped.text == "a: dask-lab-cpu@0 is stopped; `perennial up` repairs it"
    (often,) = services("lab", {"a": seen({unit: RUNS | {"restarts": 9}})})
    assert (often.level, "9 times" in often.text) == ("warning", True)
    (mute,) = services("lab", {"a": seen({unit: RUNS}, healthy=False)})
    assert "a: the scheduler does not answer" in mute.text


NFT = Firewall("nft", ("inet filter input", "inet lab input"))
FAMILIES = Firewall("nft", ("ip a input", "ip6 a input", "inet a input", "bridge a input"))


@pytest.mark.parametrize(
    ("firewall", "origin", "opened", "command"),
    [
        (
            *(Firewall(), "", [(8786, 8786)]),
            "ufw allow from any to any port 8786 proto tcp",
        ),
        (
            *(NFT, "10.0.0.2", [(8786, 8786)]),
            "nft insert rule inet filter input ip saddr 10.0.0.2 tcp dport 8786 accept && "
            "nft insert rule inet lab input ip saddr 10.0.0.2 tcp dport 8786 accept",
        ),
        (
            *(Firewall("nft", ("inet f i",)), "fd00::2", [(8786, 8786), (40000, 40009)]),
            "nft insert rule inet f i ip6 saddr fd00::2 tcp dport '{ 8786, 40000-40009 }' accept",
        ),
        (
            *(FAMILIES, "10.0.0.2", [(8786, 8786)]),
            "nft insert rule ip a input ip saddr 10.0.0.2 tcp dport 8786 accept && "
            "nft insert rule inet a input ip saddr 10.0.0.2 tcp dport 8786 accept",
        ),
        (
            *(FAMILIES, "fd00::2", [(8786, 8786)]),
            "nft insert rule ip6 a input ip6 saddr fd00::2 tcp dport 8786 accept && "
            "nft insert rule inet a input ip6 saddr fd00::2 tcp dport 8786 accept",
        ),
        (
            *(Firewall("iptables"), "10.0.0.2", [(40000, 40009)]),
            "iptables -I INPUT -s 10.0.0.2 -p tcp --dport 40000:40009 -j ACCEPT",
        ),
        (
            *(Firewall("firewalld"), "10.0.0.2", [(8786, 8786)]),
            'firewall-cmd --permanent --add-rich-rule=\'rule family="ipv4" source address='
            '"10.0.0.2" port port="8786" protocol="tcp" accept\' && firewall-cmd --reload',
        ),
    ],
)
def test_the_command_that_opens_ports(
    firewall: Firewall, origin: str, opened: list[tuple[int, int]], command: str
) -> None:
    assert rule(firewall, origin, opened) == command


def test_advice_for_a_machine_that_has_no_firewall() -> None:
    said = advice("machine-a", Firewall("none"), "10.0.0.2", [(8786, 8786)])
    assert "machine-a has no firewall of its own" in said
    assert "allow tcp from 10.0.0.2 to port 8786" in said
    assert "/etc/nftables.conf" in advice("machine-a", NFT, "10.0.0.2", [(8786, 8786)])


def test_advice_where_only_the_other_family_is_refused() -> None:
    said = advice("machine-a", Firewall("nft", ("ip6 a input",)), "10.0.0.2", [(8786, 8786)])
    assert said.startswith("machine-a refuses no IPv4 itself, so one between the two blocks it")
    assert "nft" not in said


def chain(name: str, hook: str | None = None, policy: str = "accept") -> dict[str, Any]:
    base = {"hook": hook, "policy": policy, "type": "filter"} if hook else {}
    return {"chain": {"family": "inet", "table": "t", "name": name, **base}}


def says(name: str, *expressions: dict[str, Any]) -> dict[str, Any]:
    return {"rule": {"family": "inet", "table": "t", "chain": name, "expr": list(expressions)}}


def test_chains_that_refuse_what_comes_in() -> None:
    assert list(refusing([chain("input", "input", "drop")])) == ["inet t input"]
    assert list(refusing([chain("input", "input"), says("input", {"reject": None})])) == [
        "inet t input"
    ]
    assert list(refusing([chain("input", "input"), says("input", {"accept": None})])) == []
    # Where another chain is jumped to, and where what goes out alone is refused.
    far = [chain("input", "input"), chain("far"), says("far", {"drop": None})]
    assert list(refusing(far)) == ["inet t input"]
    out = [chain("input", "input"), chain("output", "output", "drop")]
    assert list(refusing([*out, says("output", {"drop": None})])) == []
