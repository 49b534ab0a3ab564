"""What is wrong with a machine is said in one line, and is no hindrance once it is mended.

One machine is well all the time; the other one has each fault in turn, and is not touched by
the deploy that finds it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from tests.labs.hosts import faults
from tests.labs.hosts.clock import wrong_clock
from tests.labs.hosts.host import Host
from tests.labs.hosts.machine import PYTHON
from tests.labs.hosts.network import Network
from tests.labs.hosts.standing import NAME, Standing, cleared, complaints

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

WELL, ILL = "machine-a", "machine-b"
NOTEBOOKS = 8888
#: Who looks at a machine in order to change it has it alone; a boot removes the file.
LOCK = f"/run/dask-perennial/{NAME}.lock"


@pytest.fixture(scope="module")
def cluster(network: Network) -> Iterator[Standing]:
    """The scheduler is deployed; the worker and Jupyter are to come on the other machine."""
    network.machines(WELL, ILL)
    made = Standing(network)
    made.spec["jupyter"] = {"port": NOTEBOOKS}
    made.spec["hosts"]["machines"] = [
        {"address": WELL, "roles": ["scheduler"]},
        {"address": ILL, "roles": [{"cpu": 1}, "jupyter"]},
    ]
    made.write()
    yield made
    made.down()


@pytest.fixture
def ill(cluster: Standing) -> Host:
    return cluster.network[ILL]


@contextmanager
def _stranger(cluster: Standing) -> Iterator[None]:
    known = cluster.operator.home / ".ssh/known_hosts"
    lines = known.read_text()
    known.write_text("".join(line for line in lines.splitlines(True) if ILL not in line))
    try:
        yield
    finally:
        known.write_text(lines)


@contextmanager
def _reached(cluster: Standing, **options: str) -> Iterator[None]:
    machine = cluster.spec["hosts"]["machines"][1]
    before = dict(machine)
    machine |= options
    cluster.write()
    try:
        yield
    finally:
        cluster.spec["hosts"]["machines"][1] = before
        cluster.write()


@contextmanager
def _python(cluster: Standing, path: str) -> Iterator[None]:
    """Another environment on all machines; only one of them lacks it."""
    cluster.spec["environment"] = {"python": path}
    cluster.write()
    try:
        yield
    finally:
        cluster.spec["environment"] = {"python": PYTHON}
        cluster.write()


@contextmanager
def _other_key(cluster: Standing) -> Iterator[None]:
    key = cluster.operator.home / "other"
    cluster.operator.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
    config = cluster.operator.home / ".ssh/config"
    before = config.read_text()
    # `ssh` would try the keys that its configuration names as well, after the one in the file.
    lines = [line for line in before.splitlines(True) if "IdentityFile" not in line]
    try:
        with _reached(cluster, identity="~/other"):
            config.write_text("".join(lines))
            yield
    finally:
        config.write_text(before)
        key.unlink()


@contextmanager
def _without_perennial(cluster: Standing, ill: Host) -> Iterator[None]:
    """An interpreter at the usual place on one machine, and a bare one on the other."""
    place = "/usr/local/lib/some/bin/python"
    script = 'mkdir -p "$(dirname "$1")"; ln -s "$2" "$1"'
    ill.run("sh", "-ec", script, "sh", place, "/usr/bin/python3")
    well = cluster.network[WELL]
    text = f'#!/bin/sh\nexec {PYTHON} "$@"\n'
    well.write(place, text)
    well.run("chmod", "755", place)
    try:
        with _python(cluster, place):
            yield
    finally:
        for machine in (ill, well):
            machine.run("rm", "-r", "/usr/local/lib/some")


@contextmanager
def _no_python(ill: Host) -> Iterator[None]:
    """No Python at all, whatever its name ends in."""
    real = "/usr/bin/python3.11"
    with faults.no_python(ill):
        ill.run("mv", real, f"{real}.hidden")
        try:
            yield
        finally:
            ill.run("mv", f"{real}.hidden", real)


@contextmanager
def _other_cluster(ill: Host) -> Iterator[None]:
    """The manifest of a cluster whose name is that of the first one's group."""
    folder = f"/var/lib/dask-perennial/{NAME}-cpu"
    has = {"units": [], "targets": [f"dask-{NAME}-cpu.target"], "users": [f"dask-{NAME}-cpu"]}
    ill.write(f"{folder}/manifest.json", json.dumps(has))
    try:
        yield
    finally:
        ill.run("rm", "-r", folder)
        ill.run("rmdir", "--ignore-fail-on-non-empty", "/var/lib/dask-perennial")


Fault = Callable[[Standing, Host], AbstractContextManager[object]]

FAULTS: dict[str, tuple[Fault, tuple[str, ...]]] = {
    "refused": (
        lambda _, ill: faults.no_sshd(ill),
        (f"{ILL} refused the connection to port 22", "start sshd there"),
    ),
    "silent": (
        lambda _, ill: faults.silent_sshd(ill),
        ("no answer within", "check whether the machine is up"),
    ),
    "unknown": (
        lambda cluster, _: _stranger(cluster),
        ("the host key is not known", "ssh-ed25519 SHA256:", "`ssh-keyscan"),
    ),
    "changed": (
        lambda _, ill: faults.other_host_key(ill),
        ("the host key has CHANGED", "`ssh-keygen -R"),
    ),
    "user": (
        lambda cluster, _: _reached(cluster, user="somebody"),
        ("login as somebody was denied", "set `user`"),
    ),
    "key": (
        lambda cluster, _: _other_key(cluster),
        ("login as ops was denied", "/other", "authorized_keys"),
    ),
    "sudo": (
        lambda _, ill: faults.no_sudo(ill),
        ("sudo not found", "install it", "log in as root"),
    ),
    "password": (
        lambda cluster, _: _reached(cluster, user="nosudo"),
        ("sudo does not let nosudo become root", "/etc/sudoers.d"),
    ),
    "no python": (
        lambda _, ill: _no_python(ill),
        ("python3 not found", "install Python 3.11"),
    ),
    "old python": (
        lambda _, ill: faults.old_python(ill),
        ("found Python 3.7.3", "allowed: 3.11 or newer"),
    ),
    "clock": (
        lambda _, ill: wrong_clock(ill, 3630),  # what the question takes is not ahead
        ("its clock is 36", "s ahead", "timedatectl"),
    ),
    "port": (
        lambda _, ill: faults.port_taken(ill, NOTEBOOKS),
        (f"port {NOTEBOOKS}, which jupyter needs, is taken by python3", "write another port"),
    ),
    "names": (
        lambda _, ill: _other_cluster(ill),
        (f"dask-{NAME}-cpu.target of {NAME} is also that of the cluster {NAME}-cpu", "rename"),
    ),
    "bare python": (
        _without_perennial,
        ("has dask-perennial not at all", "install it there"),
    ),
    "read-only disk": (
        lambda _, ill: faults.read_only(ill, "/etc/systemd/system"),
        ("/etc/systemd/system/", "read-only file system"),
    ),
}


def refused(cluster: Standing, machine: str = ILL) -> str:
    """Deploy what cannot be; returns the one line that says why."""
    done = cluster.up(check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    (line,) = complaints(done)
    assert line.startswith(f"{machine}: "), line
    return line


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_line(cluster: Standing, ill: Host, fault: str) -> None:
    make, words = FAULTS[fault]
    with make(cluster, ill):
        line = refused(cluster)
    print(line)
    assert not [word for word in words if word not in line], line
    picture = cluster.picture()
    # Whatever begins to be written is the manifest's; nothing runs.
    machine = picture["machines"][ILL]
    if fault == "read-only disk":
        assert not machine["processes"]
    else:
        assert cleared(picture, [ILL], but=[LOCK]), machine
    assert picture["operator"] == 0
    assert not picture["locks"]


def test_an_interpreter_that_is_nowhere(cluster: Standing) -> None:
    with _python(cluster, "/opt/none/bin/python"):
        done = cluster.up(check=False)
    assert done.returncode == 1
    lines = sorted(complaints(done))
    assert [line.partition(": ")[0] for line in lines] == [WELL, ILL], lines
    assert all("no /opt/none/bin/python there" in line for line in lines)


def test_a_bad_file_is_refused_before_anybody_is_spoken_to(cluster: Standing) -> None:
    machines = list(cluster.network.all().values())

    def logins() -> list[int]:
        log = ("journalctl", "-q", "-o", "cat", "-u", "ssh", "_COMM=sshd")
        return [machine.run(*log).stdout.count("Accepted publickey") for machine in machines]

    before = logins()
    assert all(before)
    kept = dict(cluster.spec["workers"]["cpu"])
    cluster.spec["workers"]["cpu"] |= {"memory": "lots", "thread": 2}
    cluster.write()
    done = cluster.up(check=False)
    cluster.spec["workers"]["cpu"] = kept
    cluster.write()
    assert done.returncode == 2
    assert len(complaints(done)) >= 2
    assert logins() == before


def test_then_all_is_deployed(cluster: Standing) -> None:
    cluster.up()
    assert cluster.workers() == [f"cpu-{ILL}-0"]
    assert "nothing to change" in cluster.run("plan").stdout
