"""What listens, who is let in, and where secrets are: on a whole cluster, from outside."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from perennial import authority
from tests.homes import Home, make_home

pytestmark = [pytest.mark.lab, pytest.mark.smoke]


@pytest.fixture(scope="module")
def whole() -> Iterator[Home]:
    """A cluster with everything, Jupyter as well."""
    for home in make_home(jupyter=True):
        home.up()
        yield home
        home.run("down", "--force")
        assert home.processes() == []


def listeners(home: Home) -> dict[tuple[str, int], psutil.Process]:
    """Every TCP address on which a process of the cluster listens."""
    found = {}
    for process in home.processes():
        try:
            connections = process.net_connections(kind="tcp")
        except psutil.NoSuchProcess:  # Jupyter starts some that end at once
            continue
        for connection in connections:
            if connection.status == psutil.CONN_LISTEN:
                found[connection.laddr.ip, connection.laddr.port] = process
    return found


def http_ports(home: Home) -> set[int]:
    """Ports on loopback that speak plain HTTP: dashboard, Jupyter, the workers' /health."""
    found = set()
    for (_, port), process in listeners(home).items():
        try:
            if get(port, "/health") is not None:
                found.add(port)
        except (OSError, http.client.HTTPException):
            continue
        assert process.is_running()
    return found


def get(port: int, path: str, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def context(folder: Path | None = None) -> ssl.SSLContext:
    """What a stranger brings: no certificate, or one of another cluster."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    if folder is not None:
        made.load_cert_chain(folder / "client.pem", folder / "client-key.pem")
    return made


def let_in(port: int, stranger: ssl.SSLContext) -> bool:
    """Whether a TLS server goes on to speak to us (TLS 1.3 refuses after the handshake)."""
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
            stranger.wrap_socket(plain) as secure,
        ):
            secure.settimeout(5)
            return bool(secure.recv(1))
    except (ssl.SSLError, ConnectionError):
        return False


def test_nothing_listens_beyond_loopback(whole: Home) -> None:
    found = listeners(whole)
    spec = whole.spec
    for port in (*spec["scheduler"].values(), spec["jupyter"]["port"]):
        assert ("127.0.0.1", port) in found
    assert {ip for ip, _ in found} == {"127.0.0.1"}
    supervisord = whole.pid("supervisord")
    assert supervisord not in {process.pid for process in found.values()}


def test_every_dask_port_asks_for_a_certificate_of_this_cluster(
    whole: Home, tmp_path: Path
) -> None:
    authority.ensure(tmp_path / "tls", "other", ("127.0.0.1",))
    plain = http_ports(whole)
    dask = {port for _, port in listeners(whole)} - plain
    # The scheduler, and for each of two members a nanny and a worker.
    assert whole.spec["scheduler"]["port"] in dask
    kernels = {port for (_, port), p in listeners(whole).items() if "ipykernel" in str(p.cmdline())}
    assert len(dask - kernels) == 5
    for port in dask - kernels:
        assert not let_in(port, context()), port
        assert not let_in(port, context(tmp_path / "tls")), port
        assert let_in(port, context(whole.state / "tls")), port


def test_plain_http_is_jupyter_behind_its_login_and_pages_on_loopback(whole: Home) -> None:
    jupyter = whole.spec["jupyter"]["port"]
    assert jupyter in http_ports(whole)
    for path in ("/lab", "/api/contents", "/api/kernels", "/dashboard/status", "/proxy/80/"):
        status, body = get(jupyter, path)
        assert status in (302, 403), path
        assert b"notebook" not in body.lower() or status == 302
    token = (whole.state / "secrets" / "jupyter-token").read_text()
    assert get(jupyter, "/api/contents", Authorization=f"token {token}")[0] == 200
    assert get(jupyter, "/api/contents", Authorization="token wrong")[0] == 403
    # Nobody can give orders through the dashboard's HTTP: Dask's API is not among its pages.
    dashboard = whole.spec["scheduler"]["dashboard_port"]
    pages = (whole.state / "pages" / "token").read_text()
    bearer = {"Authorization": f"Bearer {pages}"}
    assert get(dashboard, "/api/v1/retire_workers", **bearer)[0] == 404


def test_the_dashboard_is_for_its_owner_and_for_who_has_logged_in(whole: Home) -> None:
    dashboard, jupyter = whole.spec["scheduler"]["dashboard_port"], whole.spec["jupyter"]["port"]
    for path in ("/health", "/status", "/json/counts.json", "/perennial/workers.json", "/metrics"):
        assert get(dashboard, path)[0] == 403, path
    login = (whole.state / "secrets" / "jupyter-token").read_text().strip()
    plots = get(jupyter, "/dashboard/individual-plots.json", Authorization=f"token {login}")
    assert plots[0] == 200
    assert b"Task Stream" in plots[1]
    # Not by its port either: a browser with JupyterLab's login has no more than that page.
    assert get(jupyter, f"/proxy/{dashboard}/status", Authorization=f"token {login}")[0] == 403
    file = whole.state / "pages" / "token"
    said = whole.run("open", "dashboard")
    assert set(said.splitlines()) == {
        f"http://127.0.0.1:{dashboard}/status",
        f"its token is in {file}",
    }
    token = file.read_text()
    assert get(dashboard, f"/status?token={token}")[0] == 302
    for process in whole.processes():
        if process.is_running():
            assert token not in " ".join([*process.cmdline(), *process.environ().values()])


def test_garbage_and_half_open_connections_do_no_harm(whole: Home) -> None:
    before = whole.pid("scheduler")
    half_open = []
    for _, port in listeners(whole):
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 4096, b"\x16\x03\x01\x00", b""):
            connection = socket.create_connection(("127.0.0.1", port), timeout=5)
            connection.sendall(garbage)
            half_open.append(connection)
    with whole.client() as client:
        assert client.submit(sum, [1, 2]).result() == 3
    for connection in half_open:
        connection.close()
    assert whole.pid("scheduler") == before
    assert whole.workers() == {"cpu-0", "cpu-1"}


def secrets(home: Home) -> list[str]:
    """The token, and the heart of each key."""
    keys = [path.read_text().splitlines()[1] for path in (home.state / "tls").glob("*-key.pem")]
    assert len(keys) == 4
    return [(home.state / "secrets" / "jupyter-token").read_text().strip(), *keys]


def test_no_secret_in_any_command_line_or_environment(whole: Home) -> None:
    hidden = [secret.encode() for secret in secrets(whole)]
    looked_at = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
        except OSError:
            continue
        looked_at += 1
        assert not any(secret in text for secret in hidden), entry
    assert looked_at > 5


def test_no_secret_outside_its_folder(whole: Home) -> None:
    hidden = [secret.encode() for secret in secrets(whole)]
    for path in whole.root.rglob("*"):
        if not path.is_file() or path.parts[-2] == "tls" or "secrets" in path.parts:
            continue
        assert not any(secret in path.read_bytes() for secret in hidden), path
    for path in (whole.state / "secrets").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_without_tls_it_works_and_warns(home: Home) -> None:
    home.spec["security"] = {"tls": False}
    home.write()
    said = home.up()
    assert "warning" in said
    assert "security.tls" in said
    code = "from distributed import Client; print(Client().submit(sum, [1, 2]).result())"
    assert home.python(code) == "3"
    assert "tcp://" in home.run("env")


def test_an_open_dashboard_works_and_warns(home: Home) -> None:
    home.spec["security"] = {"open_dashboard": True}
    home.write()
    for said in (home.run("check", str(home.file)), home.up()):
        assert "security.open_dashboard: found true: WHOEVER REACHES PORT " in " ".join(
            said.split()
        )
    port = home.spec["scheduler"]["dashboard_port"]
    found = get(port, "/status")
    assert found is not None
    assert found[0] == 200
    assert all(at.startswith("127.") for at, where in listeners(home) if where == port)
    home.run("down", "--force")
