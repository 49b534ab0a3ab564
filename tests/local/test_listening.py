"""JupyterLab's token goes to JupyterLab alone, whoever else has its port."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from perennial.cli import operate_local
from perennial.errors import PerennialError
from perennial.local import deploy, hold, ports
from perennial.paths import cluster_state
from perennial.spec import load
from tests.homes import wait_until
from tests.ports import free_ports

LISTEN = (
    "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1])));"
    "time.sleep(120)"
)


@pytest.fixture
def jupyter_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """The port of JupyterLab of the cluster `lab`, which was deployed and does not run."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    scheduler, dashboard, jupyter = free_ports(3)
    paths = cluster_state("lab")
    paths.spec.parent.mkdir(parents=True, mode=0o700)
    paths.run.mkdir(parents=True, exist_ok=True)
    paths.spec.write_text(
        f"name: lab\nplatform: local\nenvironment: {{python: {sys.executable}}}\n"
        f"scheduler: {{port: {scheduler}, dashboard_port: {dashboard}}}\n"
        f"workers: {{cpu: {{count: 1, memory: 1 GiB}}}}\njupyter: {{port: {jupyter}}}\n"
    )
    token = deploy.token_file(load(paths.spec), paths)
    token.parent.mkdir(parents=True, exist_ok=True)
    token.write_text("a-token\n")
    return jupyter


def test_the_token_is_not_given_to_whoever_took_the_port(jupyter_port: int) -> None:
    refused = f"lab: JupyterLab does not listen on port {jupyter_port}, so its token is not"
    with pytest.raises(PerennialError, match=refused):
        operate_local.jupyter("lab")
    with (
        socket.create_server(("127.0.0.1", jupyter_port)),
        pytest.raises(PerennialError, match=refused),
    ):
        operate_local.jupyter("lab")


def test_the_token_is_given_to_the_service_that_holds_the_lock(jupyter_port: int) -> None:
    run = cluster_state("lab").run
    lock = run / "jupyter.lock"
    held = [sys.executable, "-I", "-S", hold.__file__, str(lock), str(run / "log")]
    program = [sys.executable, "-c", LISTEN, str(jupyter_port)]
    process = subprocess.Popen([*held, *program], start_new_session=True)
    try:
        wait_until(lambda: ports.is_of(lock, jupyter_port))
        found = operate_local.jupyter("lab")
        assert found is not None
        assert found[1] == "a-token"
    finally:
        process.kill()
        process.wait()
