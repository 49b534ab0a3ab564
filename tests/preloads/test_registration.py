"""Who may register as a worker: real processes, with the certificates that a cluster has."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, Security
from distributed.comm import connect

from perennial import authority
from tests.dask_processes import tls_flags, workers_of
from tests.preloads.conftest import DRAIN, KEEP, Lab, until

PRELOAD = ("--preload", "perennial.preloads.certificates")


@pytest.fixture
def tls(lab: Lab) -> Path:
    """The certificates of a cluster, whose scheduler runs."""
    folder = lab.folder / "tls"
    authority.ensure(folder, "lab", ("127.0.0.1",))
    lab.protocol = "tls"
    lab.scheduler(*tls_flags(folder, "scheduler"), *PRELOAD)
    return folder


def shows(tls: Path, role: str) -> Security:
    """What connects with the certificate of a role."""
    return Security(
        tls_ca_file=f"{tls}/ca.pem",
        tls_client_cert=f"{tls}/{role}.pem",
        tls_client_key=f"{tls}/{role}-key.pem",
        require_encryption=True,
    )


def said_to(lab: Lab, tls: Path, role: str, **message: Any) -> Any:
    """What the scheduler answers to a message."""

    async def ask() -> Any:
        arguments = shows(tls, role).get_connection_args("client")
        comm = await connect(lab.address, timeout=60, **arguments)
        await comm.write(message)
        answer = await comm.read()
        await comm.close()
        return answer

    return asyncio.run(ask())


def test_a_client_is_no_worker(lab: Lab, tls: Path) -> None:
    lab.worker("thief", *tls_flags(tls, "client"), *DRAIN, *KEEP)
    until(lambda: "refused to register" in lab.log("scheduler"), "it is refused")
    lab.worker("right", *tls_flags(tls, "worker"), *DRAIN, *KEEP)
    with Client(lab.address, security=shows(tls, "client")) as client:
        client.wait_for_workers(1, timeout=60)
        assert client.submit(sum, [1, 2]).result(timeout=60) == 3
        workers = workers_of(client).values()
        assert [worker["name"] for worker in workers] == ["right"]
        # A plain message is refused as well, of whatever it tells.
        for role in ("client", "scheduler"):
            asked = {"address": "tls://127.0.0.1:9", "name": "thief", "reply": False}
            answer = said_to(lab, tls, role, op="register-worker", **asked)
            assert answer["status"] == "error"
            allowed = f"found the certificate of a {role}; allowed: that of a worker"
            assert allowed in answer["message"]
        answer = said_to(lab, tls, "client", op="register_nanny", address="tls://127.0.0.1:9")
        assert (answer["status"], answer["nanny-plugins"]) == ("error", {})
        assert len(workers_of(client)) == 1


def test_without_the_preload_a_client_would_be_one(lab: Lab) -> None:
    folder = lab.folder / "tls"
    authority.ensure(folder, "lab", ("127.0.0.1",))
    lab.protocol = "tls"
    lab.scheduler(*tls_flags(folder, "scheduler"))
    answer = said_to(lab, folder, "worker", op="register_nanny", address="tls://127.0.0.1:9")
    assert answer["status"] == "OK"
    answer = said_to(lab, folder, "client", op="register_nanny", address="tls://127.0.0.1:9")
    assert answer["status"] == "OK"
