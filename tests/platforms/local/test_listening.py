"""JupyterLab's token goes to JupyterLab alone, whoever else has its port."""

from __future__ import annotations

import os
import pty
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from perennial.errors import PerennialError
from perennial.paths import cluster_state
from perennial.platforms.local import deploy
from perennial.platforms.local.runtime import LocalRuntime
from perennial.spec import load
from perennial.supervision import single_instance
from perennial.supervision.listening import is_of
from tests.homes import PERENNIAL, wait_until
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
        LocalRuntime("local", "lab").jupyter()
    with (
        socket.create_server(("127.0.0.1", jupyter_port)),
        pytest.raises(PerennialError, match=refused),
    ):
        LocalRuntime("local", "lab").jupyter()


@contextmanager
def listening(port: int) -> Iterator[None]:
    """Something that listens on the port as the cluster's JupyterLab does."""
    run = cluster_state("lab").run
    lock = run / "jupyter.lock"
    held = [sys.executable, "-I", "-S", single_instance.__file__, str(lock), str(run / "log")]
    program = [sys.executable, "-c", LISTEN, str(port)]
    process = subprocess.Popen([*held, *program], start_new_session=True)
    try:
        wait_until(lambda: is_of(lock, port))
        yield
    finally:
        process.kill()
        process.wait()


def test_the_token_is_given_to_the_service_that_holds_the_lock(jupyter_port: int) -> None:
    with listening(jupyter_port):
        found = LocalRuntime("local", "lab").jupyter()
        assert found is not None
        assert found.token.read_text() == "a-token\n"


def test_the_token_is_printed_on_a_terminal_alone(jupyter_port: int) -> None:
    """What a pipe gets ends in a log, such as that of a CI."""
    paths = cluster_state("lab")
    address = f"http://127.0.0.1:{jupyter_port}/lab"
    with listening(jupyter_port):
        for words in (["open"], ["open", "--print"]):
            piped = subprocess.run([PERENNIAL, *words], capture_output=True, text=True, check=True)
            assert piped.stdout == f"{address}\n"
            kept = deploy.token_file(load(paths.spec), paths)
            assert piped.stderr == f"its token is in {kept}\n"
        terminal, theirs = pty.openpty()
        subprocess.run([PERENNIAL, "open", "--print"], stdout=theirs, check=True)
        os.close(theirs)
        shown = os.read(terminal, 1000).decode()
        os.close(terminal)
        assert shown == f"{address}?token=a-token\r\n"
