"""The certificates in real Dask processes: who gets in, and who does not."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from perennial import authority
from perennial.paths import ClusterPaths
from perennial.platforms.local.layout import site
from perennial.services.dask import dask_config
from perennial.spec import loads
from tests import dask_processes
from tests.dask_processes import python


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lab") / "tls"
    authority.ensure(folder, "lab", authority.local_names())
    return folder


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another cluster of the same name."""
    folder = tmp_path_factory.mktemp("other") / "tls"
    authority.ensure(folder, "lab", authority.local_names())
    return folder


@pytest.fixture(scope="module")
def address(tls: Path) -> Iterator[str]:
    with dask_processes.cluster(tls.parent, tls) as address:
        yield address


def ask(address: str, tls: Path, role: str = "client") -> str:
    files = f"tls_ca_file='{tls}/ca.pem', tls_client_cert='{tls}/{role}.pem'"
    return python(
        "from distributed import Client, Security\n"
        f"security = Security({files}, tls_client_key='{tls}/{role}-key.pem')\n"
        f"with Client('{address}', security=security, timeout=30) as client:\n"
        "    print(client.submit(sum, [1, 2]).result(30))\n",
        tls.parent,
    )


def test_the_right_client_works(address: str, tls: Path) -> None:
    assert ask(address, tls) == "3"


def test_a_client_with_another_clusters_certificate_is_refused(address: str, other: Path) -> None:
    assert "TLS certificate does not match" in ask(address, other)


def test_a_client_without_certificate_is_refused(address: str, tls: Path) -> None:
    assert "TLS" in python(f"from distributed import Client; Client('{address}')", tls.parent)
    # Dask's client gives up by itself, so the scheduler is asked directly as well.
    context = ssl.create_default_context(cafile=str(tls / "ca.pem"))
    host, port = address.removeprefix("tls://").split(":")
    with (
        pytest.raises(ssl.SSLError, match=r"(?i)certificate.required|handshake.failure"),
        socket.create_connection((host, int(port)), 10) as plain,
        context.wrap_socket(plain, server_hostname=host) as secure,
    ):
        secure.recv(1)


def test_a_client_without_tls_is_refused(address: str, tls: Path) -> None:
    plain = address.replace("tls://", "tcp://")
    code = f"from distributed import Client; Client('{plain}', timeout=3); print('connected')"
    found = python(code, tls.parent)
    assert found.startswith(("OSError: Timed out", "distributed.comm.core.CommClosedError"))


def test_a_worker_with_another_clusters_certificate_is_refused(
    address: str, tls: Path, other: Path
) -> None:
    flags = dask_processes.tls_flags(other, "worker")
    ended = subprocess.run(
        [sys.executable, "-m", "dask", "worker", address, "--death-timeout", "4", *flags],
        env=dask_processes.environment(tls.parent),
        cwd=other,
        capture_output=True,
        text=True,
        timeout=dask_processes.PATIENCE,
        check=False,
    )
    assert ended.returncode != 0
    assert "TLS" in ended.stderr
    assert ask(address, tls) == "3"


@pytest.fixture(scope="module")
def service(tls: Path) -> Iterator[tuple[str, int]]:
    """A scheduler with the configuration that services get."""
    spec = loads("name: lab\nplatform: local\nworkers: {cpu: {}}\n")
    place = site(spec, ClusterPaths(tls.parent))
    (tls.parent / "service.yaml").write_text(dask_config(spec, place, {}))
    code = f"{tls.parent}/service.yaml"
    with pytest.MonkeyPatch.context() as patch:
        usual = dask_processes.environment
        patch.setattr(
            dask_processes,
            "environment",
            lambda home, more=None: {**usual(home, more), "DASK_CONFIG": code},
        )
        folder = tls.parent / "service"
        folder.mkdir()
        with dask_processes.scheduler(folder, tls, "--no-dashboard") as address:
            host, _, port = address.removeprefix("tls://").partition(":")
            yield host, int(port)


def shaken(tls: Path, service: tuple[str, int], version: ssl.TLSVersion, ciphers: str = "") -> str:
    """Shake hands with a scheduler as a client with a good certificate; the version that it has."""
    context = ssl.create_default_context(cafile=str(tls / "ca.pem"))
    context.check_hostname = False
    context.load_cert_chain(tls / "client.pem", tls / "client-key.pem")
    context.set_ciphers(ciphers or "DEFAULT:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore"):
        context.minimum_version = context.maximum_version = version
    with (
        socket.create_connection(service, 10) as plain,
        context.wrap_socket(plain) as secure,
    ):
        return str(secure.version())


def test_services_take_tls_1_3_alone(tls: Path, service: tuple[str, int]) -> None:
    assert shaken(tls, service, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
    for version, ciphers in [
        (ssl.TLSVersion.TLSv1_1, ""),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-SHA256:@SECLEVEL=0"),  # CBC
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES256-GCM-SHA384"),
    ]:
        with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version|unsupported.protocol"):
            shaken(tls, service, version, ciphers)
