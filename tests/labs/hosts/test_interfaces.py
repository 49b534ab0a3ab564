"""Machines with several networks: services listen where the cluster file says, and nowhere else."""

from __future__ import annotations

import json

import pytest

from tests.labs.hosts.host import Host
from tests.labs.hosts.machine import PYTHON
from tests.labs.hosts.network import Network

pytestmark = pytest.mark.lab

ADDRESSES = (
    "from distributed import Client; import json; client = Client(timeout=60)\n"
    "info = client.sync(client.scheduler.identity, n_workers=-1)\n"
    "print(json.dumps([client.scheduler.address, sorted(info['workers'])]))"
)


@pytest.fixture(scope="module")
def cluster(network: Network) -> tuple[Host, Host]:
    """Two machines whose services speak over their fast network."""
    first, second = (network.add(name, "fast") for name in ("machine-a", "machine-b"))
    network.boot(first, second)
    machines = "\n".join(
        f"    - {{address: {host.name}, internal: {host.addresses['fast']}, interface: fast0,"
        f" roles: {roles}}}"
        for host, roles in ((first, "[scheduler]"), (second, "[{cpu: 1}]"))
    )
    (network.operator.home / "cluster.yaml").write_text(
        f"name: lab\nplatform: hosts\nenvironment: {{python: {PYTHON}}}\njupyter: null\n"
        f"workers: {{cpu: {{memory: 512 MiB}}}}\nhosts:\n  machines:\n{machines}\n"
    )
    network.operator.run("perennial", "up", "--yes", timeout=300)
    return first, second


def listening(host: Host) -> set[str]:
    """Addresses on which Dask listens on a machine, but for loopback."""
    lines = host.run("ss", "-Hltnp").stdout.splitlines()
    found = {line.split()[3].rpartition(":")[0] for line in lines if '"python' in line}
    return {address for address in found if address not in ("127.0.0.1", "[::1]")}


def test_services_listen_on_the_interface_alone(cluster: tuple[Host, Host]) -> None:
    for host in cluster:
        assert listening(host) == {host.addresses["fast"]}


def test_workers_speak_over_it(network: Network, cluster: tuple[Host, Host]) -> None:
    first, second = cluster
    # The operator is not on that network: the client runs on a machine that is.
    code = ADDRESSES.replace(
        "Client(timeout=60)",
        f"Client('tls://{first.addresses['fast']}:8786', timeout=60, security=security)",
    ).replace(
        "import json;",
        "from distributed.security import Security; import json;"
        " tls = '/etc/dask-perennial/lab/tls/';"
        " security = Security(tls_ca_file=tls + 'ca.pem', require_encryption=True,"
        " tls_client_cert=tls + 'scheduler.pem', tls_client_key=tls + 'scheduler-key.pem');",
    )
    scheduler, workers = json.loads(first.python(code, timeout=120))
    assert scheduler == f"tls://{first.addresses['fast']}:8786"
    [worker] = workers
    assert worker.startswith(f"tls://{second.addresses['fast']}:")


def test_certificates_bear_these_addresses(cluster: tuple[Host, Host]) -> None:
    for host, role in zip(cluster, ("scheduler", "worker"), strict=True):
        text = host.python(
            "from cryptography import x509; from pathlib import Path; import sys\n"
            "cert = x509.load_pem_x509_certificate(Path(sys.argv[1]).read_bytes())\n"
            "names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value\n"
            "print(*names.get_values_for_type(x509.IPAddress))\n",
            f"/etc/dask-perennial/lab/tls/{role}.pem",
        )
        assert host.addresses["fast"] in text.split()


def test_an_interface_that_is_not_there_is_one_line(
    network: Network, cluster: tuple[Host, Host]
) -> None:
    seat = network.operator
    text = (seat.home / "cluster.yaml").read_text()
    (seat.home / "other.yaml").write_text(text.replace("interface: fast0", "interface: ib0"))
    done = seat.run("perennial", "up", "--yes", "-f", "other.yaml", check=False, timeout=300)
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if "ib0" in line]
    assert "machine-a: interface ib0 is not there; there are" in said[-1] + said[0]
    assert "Traceback" not in done.stderr


def test_ucx_is_refused_where_its_package_is_missing(
    network: Network, cluster: tuple[Host, Host]
) -> None:
    seat = network.operator
    text = (seat.home / "cluster.yaml").read_text()
    (seat.home / "ucx.yaml").write_text(text + "protocol: ucx\nsecurity: {tls: false}\n")
    done = seat.run("perennial", "up", "--yes", "-f", "ucx.yaml", check=False, timeout=300)
    assert done.returncode == 1
    assert "lacks distributed_ucxx, which the cluster file needs" in done.stderr
    assert "Traceback" not in done.stderr
    # Nothing was changed by the refusals: the cluster is whole when its own file is back.
    seat.run("perennial", "up", "--yes", timeout=300)
    assert "nothing to change" in seat.run("perennial", "plan").stdout
