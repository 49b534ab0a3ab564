"""A machine's certificates: made once, kept, renewed in time."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from perennial import certificates
from perennial.errors import FleetError
from perennial.platforms.hosts.issuing import Issued, issue
from perennial.platforms.hosts.machine_services import MachineServices, services_by_machine
from perennial.platforms.hosts.secrets import Secrets
from tests.platforms.hosts.clusters import spec_of

NOW = datetime.now(UTC)


def authority(cluster: str = "lab") -> Secrets:
    pair = certificates.make_authority(cluster, NOW)
    return Secrets(pair.cert.decode(), pair.key.decode(), "token")


@pytest.fixture(scope="module")
def secrets() -> Secrets:
    return authority()


ASSIGNED = services_by_machine(spec_of())["machine-a"]
EMPTY: dict[str, Any] = {"address": "10.0.0.9", "manifest": {}, "files": {}}


def issued(assigned: MachineServices, found: dict[str, Any], secrets: Secrets) -> Issued:
    return issue(assigned, found, secrets, assigned.services)


def deployed(done: Issued) -> dict[str, Any]:
    """What a machine reports once the files are there."""
    files = {
        path: [hashlib.sha256(text.encode()).hexdigest(), 0o600, None]
        for path, text in done.files.items()
    }
    return {**EMPTY, "manifest": {"certificates": dict(done.remember)}, "files": files}


def names_of(pem: str) -> tuple[list[str], list[str]]:
    from cryptography import x509

    cert = x509.load_pem_x509_certificate(pem.encode())
    found = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return found.get_values_for_type(x509.DNSName), [
        str(address) for address in found.get_values_for_type(x509.IPAddress)
    ]


def test_a_machine_gets_what_its_services_read(secrets: Secrets) -> None:
    done = issued(ASSIGNED, EMPTY, secrets)
    asked = {path for part in ASSIGNED.services for path in part.access.secrets}
    assert set(done.files) == asked
    assert all(done.files.values())
    assert done.files["/var/lib/dask-perennial/lab/secrets/jupyter-token"] == "token"
    assert done.renewed == ()
    assert datetime.fromisoformat(done.expires) > NOW + timedelta(days=300)


def test_the_authoritys_key_stays_here(secrets: Secrets) -> None:
    done = issued(ASSIGNED, EMPTY, secrets)
    assert secrets.ca_key not in done.files.values()
    assert not any("ca-key" in path for path in done.files)


@pytest.mark.parametrize("role", ["scheduler", "jupyter"])
def test_a_certificate_bears_the_machines_names_and_address(secrets: Secrets, role: str) -> None:
    done = issued(ASSIGNED, EMPTY, secrets)
    text = next(text for path, text in done.files.items() if path.endswith(f"/{role}.pem"))
    names, addresses = names_of(text)
    assert {"machine-a", "machine-a.example.org", "localhost"} <= set(names)
    assert {"10.0.0.9", "127.0.0.1"} <= set(addresses)


def test_what_is_there_stays(secrets: Secrets) -> None:
    first = issued(ASSIGNED, EMPTY, secrets)
    again = issued(ASSIGNED, deployed(first), secrets)
    assert {path for path, text in again.files.items() if not text} == again.unchanged
    assert {path.rpartition("/")[2] for path in again.unchanged} == {
        f"{role}{end}.pem" for role in ASSIGNED.roles for end in ("", "-key")
    }
    assert again.renewed == ()
    assert again.expires == first.expires


@pytest.mark.parametrize("case", ["fresh", "ends soon", "other address"])
def test_without_the_authoritys_key_what_is_there_stays(secrets: Secrets, case: str) -> None:
    first = issued(ASSIGNED, EMPTY, secrets)
    found = deployed(first)
    if case == "ends soon":
        for known in found["manifest"]["certificates"].values():
            known["ends"] = (NOW + timedelta(days=20)).isoformat()
    elif case == "other address":
        found["address"] = "10.0.0.10"
    again = issued(ASSIGNED, found, Secrets(secrets.ca, "", secrets.token))
    assert len(again.unchanged) == 2 * len(ASSIGNED.roles)
    # So that the next `up` still knows what is to be signed.
    assert again.remember == found["manifest"]["certificates"]


@pytest.mark.parametrize("fault", ["edited", "missing", "unknown"])
def test_without_the_authoritys_key_what_is_damaged_is_said(secrets: Secrets, fault: str) -> None:
    found = deployed(issued(ASSIGNED, EMPTY, secrets))
    path = next(path for path in found["files"] if path.endswith("/scheduler-key.pem"))
    if fault == "edited":
        found["files"][path] = ["0" * 64, 0o600, None]
    elif fault == "missing":
        del found["files"][path]
    else:
        del found["manifest"]["certificates"]["scheduler"]
    with pytest.raises(
        FleetError, match=r"machine-a: .*scheduler\.pem or its key .*`perennial up`"
    ):
        issued(ASSIGNED, found, Secrets(secrets.ca, "", secrets.token))


def test_without_tls_a_scale_keeps_jupyters_certificate() -> None:
    secrets, assigned = (
        authority(),
        services_by_machine(spec_of(security={"tls": False}))["machine-a"],
    )
    assert assigned.roles == ("jupyter",)
    found = deployed(issued(assigned, EMPTY, secrets))
    again = issued(assigned, found, Secrets("", "", secrets.token))
    assert len(again.unchanged) == 2
    assert again.renewed == ()


def test_the_operators_own_certificate_is_none_that_we_renew(secrets: Secrets) -> None:
    pair = certificates.make_certificate(
        certificates.Pair(secrets.ca.encode(), secrets.ca_key.encode()),
        *("jupyter", (), NOW - timedelta(days=355)),
    )
    mine = (pair.cert.decode(), pair.key.decode())
    assigned = replace(ASSIGNED, roles=tuple(role for role in ASSIGNED.roles if role != "jupyter"))
    done = issued(
        assigned, EMPTY, replace(secrets, jupyter_certificate=mine[0], jupyter_key=mine[1])
    )
    assert set(mine) < set(done.files.values())
    assert datetime.fromisoformat(done.expires) > NOW + timedelta(days=300)


@pytest.mark.parametrize("fault", ["ends soon", "other address", "edited", "other authority"])
def test_a_certificate_is_made_again(secrets: Secrets, fault: str) -> None:
    first = issued(ASSIGNED, EMPTY, secrets)
    found = deployed(first)
    path = next(path for path in first.files if path.endswith("/scheduler.pem"))
    if fault == "ends soon":
        soon = (NOW + timedelta(days=20)).isoformat()
        found["manifest"]["certificates"]["scheduler"] = {
            **found["manifest"]["certificates"]["scheduler"],
            "ends": soon,
        }
    elif fault == "other address":
        found["address"] = "10.0.0.10"
    elif fault == "edited":
        found["files"][path] = ["0" * 64, 0o600, None]
    else:
        secrets = authority()
    again = issued(ASSIGNED, found, secrets)
    assert path in again.renewed
    assert again.files[path] not in ("", first.files[path])
