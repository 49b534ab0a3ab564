"""What this machine cannot give a cluster."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from perennial.capacity import MachineResources
from perennial.cgroups import memory_limit
from perennial.errors import PerennialError, SpecError
from perennial.platforms.local import checks, deploy, ports
from perennial.platforms.local.machine import this_machine
from perennial.spec import ClusterSpec, loads
from perennial.supervision import listening
from tests.ports import free_ports, free_range


def spec(more: str = "", group: str = "{}", scheduler: int = 0) -> ClusterSpec:
    chosen = free_ports(3)
    return loads(
        f"name: lab\nplatform: local\nworkers: {{cpu: {group}}}\n"
        f"scheduler: {{port: {scheduler or chosen[0]}, dashboard_port: {chosen[1]}}}\n"
        + (more if "jupyter:" in more else f"jupyter: {{port: {chosen[2]}}}\n{more}")
    )


def errors(made: ClusterSpec, own: frozenset[int] = frozenset()) -> list[str]:
    return [fault.render("lab.yaml") for fault in checks.faults_of_machine(made, own)[0]]


def as_nobody(call: Callable[[], str]) -> str:
    """Call something in a process without any right of root's."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        try:
            os.write(writer, call().encode())
        except BaseException as error:
            os.write(writer, repr(error).encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with open(reader) as file:
        return file.read()


def test_nothing_to_say() -> None:
    assert checks.faults_of_machine(spec(group="{memory: 100 MiB}")) == ([], [])


def test_more_than_the_machine_has() -> None:
    machine = MachineResources(cores=2, memory=4 * 2**30, available=4 * 2**30)
    assert list(checks.sizes(spec(group="{count: 4, memory: 1 GiB}"), machine)) == []
    made = spec(group="{count: 2, processes: 2, threads: 2, memory: 2 GiB}")
    assert [fault.render("lab.yaml") for fault in checks.sizes(made, machine)] == [
        "lab.yaml: workers: found 8 GiB of memory for 4 workers; allowed: up to 4 GiB, "
        "this machine's memory; lower count, processes or memory",
        "lab.yaml: workers: found 8 threads in 4 workers; allowed: up to 4, "
        "twice this machine's cores; lower count, processes or threads",
    ]


def test_this_machine() -> None:
    machine = this_machine()
    assert 1 <= machine.cores <= (os.cpu_count() or 1)
    assert 2**28 < machine.memory <= psutil.virtual_memory().total


def test_control_groups_limit_memory(tmp_path: Path) -> None:
    inner = tmp_path / "user.slice" / "me.scope"
    inner.mkdir(parents=True)
    (inner / "memory.max").write_text("max\n")
    (tmp_path / "user.slice" / "memory.max").write_text("5000\n")
    assert memory_limit(9000, "0::/user.slice/me.scope\n", tmp_path) == 5000
    assert memory_limit(4000, "0::/user.slice/me.scope\n", tmp_path) == 4000
    assert memory_limit(9000, "0::/elsewhere\n", tmp_path) == 9000
    (tmp_path / "memory" / "x").mkdir(parents=True)
    (tmp_path / "memory" / "x" / "memory.limit_in_bytes").write_text("3000\n")
    assert memory_limit(9000, "3:cpu:/y\n2:memory,a:/x\n0::/\n", tmp_path) == 3000
    assert memory_limit(9000, "", tmp_path) == 9000


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        [error] = errors(spec(scheduler=port))
        assert error.startswith(
            f"lab.yaml: scheduler.port: found {port}, taken by process {os.getpid()} (`"
        )
        assert error.endswith("; allowed: a free port; stop that process or change scheduler.port")
        assert errors(spec(scheduler=port), frozenset({os.getpid()})) == []
        # What a service of the cluster's has started is the cluster's as well.
        assert errors(spec(scheduler=port), frozenset({os.getppid()})) == []


def test_a_port_that_is_taken_on_every_address() -> None:
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        assert f"taken by process {os.getpid()}" in errors(spec(scheduler=port))[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a process of another user")
def test_a_port_of_another_user() -> None:
    code = (
        "import socket, sys; server = socket.create_server(('127.0.0.1', 0))\n"
        "print(server.getsockname()[1], flush=True); sys.stdin.read()"
    )
    # A process of its own: a child of this one would hold its socket as well.
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        port = int(other.stdout.readline())
        made = spec("jupyter: null\n", scheduler=port)
        said = as_nobody(lambda: "\n".join(f.found for f in ports.faults_of_ports(made, ())))
        other.communicate()
    assert said == f"{port}, taken by a process that this user may not see"


def test_a_privileged_port() -> None:
    start = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    first = int(start.read_text()) if start.exists() else 1024
    if first <= 1:
        pytest.skip("this machine has no privileged ports")
    made = spec(scheduler=first - 1)
    said = as_nobody(lambda: "\n".join(f.render("x") for f in ports.faults_of_ports(made, ())))
    assert said == (
        f"x: scheduler.port: found {first - 1}, a privileged port; allowed: ports from {first}, "
        "or the right CAP_NET_BIND_SERVICE; write a higher port"
    )


def test_a_range_of_ports() -> None:
    port, last = free_range(2)
    made = spec(group=f"{{ports: [{port}, {last}]}}")
    with socket.create_server(("127.0.0.1", port)):
        [error] = errors(made)
        assert f"workers.cpu.ports: found 1 free of the ports {port}:{last}; " in error
        assert errors(made, frozenset({os.getpid()})) == []
    assert errors(made) == []


@pytest.mark.parametrize("address", ["0.0.0.0", "203.0.113.7", "lab.example.org", "", "::"])
def test_no_address_of_this_machine(address: str) -> None:
    [error] = errors(spec(f"local: {{address: '{address}'}}\n"))
    assert error.startswith(f"lab.yaml: local.address: found '{address}'; allowed: an IP address")
    assert "127.0.0.1" in error


def test_addresses_of_this_machine() -> None:
    for address in listening.addresses():
        assert errors(spec(f"local: {{address: '{address}'}}\n")) == []


def test_the_next_free_port() -> None:
    [port] = free_ports(1)
    with socket.create_server(("127.0.0.1", port)):
        assert listening.free_port(port) > port
    assert listening.free_port(port) == port


def test_folders(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert errors(spec(f"local: {{temporary_directory: {tmp_path}/a/b}}\n")) == []
    assert not (tmp_path / "a").exists()
    [error] = errors(spec(f"local: {{temporary_directory: {file}/x}}\n"))
    assert "file, which is a file; allowed: a folder; change local.temporary_directory" in error
    with pytest.raises(SpecError) as caught:
        spec("local: {temporary_directory: scratch}\n")
    assert "local.temporary_directory: found 'scratch'; allowed: an absolute path" in str(
        caught.value
    )


def test_a_folder_without_the_right_to_write() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        made = spec(f"jupyter: {{directory: {folder}/notebooks}}\n")
        said = as_nobody(lambda: "\n".join(f.render("x") for f in checks._folders(made)))
    assert said == (
        f"x: jupyter.directory: found {folder}, where this user may not write; "
        "allowed: a folder that this user may write to; change jupyter.directory"
    )


@pytest.fixture
def roots() -> Iterator[Path]:
    """A folder that root alone can change, where root runs the tests: /tmp is everybody's."""
    where = "/run" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="checks-", dir=where) as folder:
        yield Path(folder)


def script(folder: Path, text: str) -> str:
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return f"environment: {{python: {path}}}\n"


def test_an_interpreter_that_has_everything(roots: Path) -> None:
    assert errors(spec(script(roots, f'exec {sys.executable} "$@"'))) == []


def test_an_interpreter_that_lacks_something(roots: Path) -> None:
    bare = script(roots, f'exec {sys.executable} -S "$@"')
    services, jupyter = errors(spec(bare))
    assert "python without dask-perennial, dask, distributed; allowed: " in services
    assert services.endswith("python -m pip install dask-perennial`")
    assert jupyter.startswith("lab.yaml: jupyter: found ")
    assert jupyter.endswith("python -m pip install 'dask-perennial[jupyter]'`")
    assert len(errors(spec("jupyter: null\n" + bare))) == 1


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("echo hello", "no Python interpreter"),
        ("exit 3", "no Python interpreter"),
        ("echo '[false, []]'", "older than Python 3.11"),
        ("exec sleep 60", "silent for 1 s"),
    ],
)
def test_no_interpreter(
    roots: Path, text: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "PROBE_TIMEOUT", 1.0)
    [error] = errors(spec(script(roots, text)))
    assert f"/python: {problem}; allowed: a Python interpreter, 3.11 or later" in error


def test_an_interpreter_that_cannot_be_started(roots: Path) -> None:
    [error] = errors(spec("environment: {python: /nowhere/python}\n"))
    assert "environment.python: found /nowhere/python: no such file or directory; " in error
    (roots / "python").touch()
    [error] = errors(spec(f"environment: {{python: {roots}/python}}\n"))
    assert "/python: permission denied; " in error


@pytest.mark.skipif(os.geteuid() != 0, reason="only root refuses")
def test_root_runs_no_interpreter_that_others_can_change(
    roots: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    witness = roots / "witness"
    made = spec(script(roots, f"touch {witness}"))
    os.chown(roots / "python", 12345, 12345)

    [error] = errors(made)
    assert error == (
        f"lab.yaml: environment.python: found {roots}/python, which root would run, and"
        f" {roots}/python belongs to user 12345; allowed: an interpreter that root alone can"
        " change, with every folder above it; run `perennial` as another user than root, or name"
        " another interpreter"
    )
    # What `pulumi up` does without judging the file first.
    monkeypatch.setenv("XDG_STATE_HOME", str(roots / "state"))
    with pytest.raises(PerennialError, match="belongs to user 12345"):
        deploy.apply(deploy.prepare(made, None, print))
    assert not (roots / "state").exists()
    assert not witness.exists()


def test_without_tls() -> None:
    _, [warning] = checks.faults_of_machine(spec("security: {tls: false}\n", "{memory: 100 MiB}"))
    assert "false: every user of this machine can run code as you through port" in warning.found
    others = [each for each in listening.addresses() if each not in ("127.0.0.1", "::1")]
    if not others:
        pytest.skip("this machine has only loopback")
    made = spec(f"security: {{tls: false}}\nlocal: {{address: '{others[0]}'}}\n")
    [warning] = checks._open_to_others(made)
    assert "false: ANYBODY ON THE NETWORK can run code as you" in warning.found


def test_no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "LEAST_DISK", 2**60)
    made = spec("local: {temporary_directory: /tmp/somewhere}\n", "{memory: 100 MiB}")
    _, [warning] = checks.faults_of_machine(made)
    assert warning.path == "local.temporary_directory"
    assert "of free disk for /tmp/somewhere" in warning.found
