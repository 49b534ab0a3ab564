"""The lab itself: machines boot and are reached, faults do what they say, nothing is left.

The tests of a machine run in their order on two machines; each leaves them whole.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.labs.hosts import faults, reaper
from tests.labs.hosts.base import CHECKOUT
from tests.labs.hosts.clock import wrong_clock
from tests.labs.hosts.host import Host
from tests.labs.hosts.machine import PYTHON, UnavailableError
from tests.labs.hosts.network import Network
from tests.labs.hosts.scan import Answer, scan

pytestmark = pytest.mark.lab

SSH = 'ssh -F "$HOME/.ssh/config" machine-b'


@pytest.fixture(scope="module")
def plain() -> Iterator[Network]:
    """A network with machine-a, which stands outside as well, and machine-b."""
    try:
        made = Network()
    except UnavailableError as reason:
        pytest.skip(str(reason))
    with made:
        made.boot(made.add("machine-a", "outside", "fast"), made.add("machine-b", "fast"))
        yield made


@pytest.fixture
def machine_a(plain: Network) -> Host:
    return plain["machine-a"]


@pytest.fixture
def machine_b(plain: Network) -> Host:
    return plain["machine-b"]


def test_the_operator_logs_in_and_becomes_root(plain: Network) -> None:
    for name in ("machine-a", "machine-b"):
        said = plain.operator.ssh(name, "whoami; hostname; sudo -n whoami").stdout
        assert said.split() == ["ops", name, "root"]
    refused = plain.operator.ssh("nosudo@machine-a", "sudo -n true", check=False)
    assert "a password is required" in refused.stderr
    assert plain.operator.ssh("root@machine-b", "whoami").stdout == "root\n"


def test_programs_of_the_seat_use_its_home_and_names(plain: Network) -> None:
    code = """
from perennial.ssh import Hop, Session
with Session(Hop("machine-b", "machine-b")) as session:
    print(session.start("hostname").readline().decode(), end="")
"""
    assert plain.operator.python(code) == "machine-b\n"


def test_machines_know_each_other_by_name(machine_a: Host, machine_b: Host) -> None:
    code = "import socket; print(socket.gethostbyname('machine-a'), socket.gethostname())"
    assert machine_b.python(code).split() == [machine_a.address, "machine-b"]
    code = f"import socket; socket.create_connection(('{machine_b.addresses['fast']}', 22))"
    machine_a.python(code)


def test_the_laptop_reaches_the_bastion_alone(
    plain: Network, machine_a: Host, machine_b: Host
) -> None:
    assert plain.laptop.ssh("machine-a", "hostname").stdout == "machine-a\n"
    for machine in (machine_a, machine_b):
        assert not plain.laptop.reaches(machine.address)
        assert not plain.laptop.reaches(machine.addresses["fast"])
    # Nor when it is told a way.
    namespace = plain.laptop.namespace
    for network in ("10.77.0.0/24", "10.79.0.0/24"):
        way = ("via", machine_a.addresses["outside"])
        subprocess.run(["ip", "-n", namespace, "route", "add", network, *way], check=True)
    assert not plain.laptop.reaches(machine_b.address)
    subprocess.run(["ip", "-n", namespace, "route", "flush", "root", "10.77.0.0/24"], check=True)
    subprocess.run(["ip", "-n", namespace, "route", "flush", "root", "10.79.0.0/24"], check=True)


def test_a_cut_network_says_nothing_and_is_mended(plain: Network, machine_b: Host) -> None:
    with machine_b.unreachable():
        assert not plain.operator.reaches(machine_b.address)
        assert f"inet {machine_b.address}/" in machine_b.run("ip", "-o", "address").stdout
    assert plain.operator.reaches(machine_b.address)


def test_a_slow_network_takes_its_time(plain: Network, machine_b: Host) -> None:
    begin = time.monotonic()
    with machine_b.slow("1mbit"):
        plain.operator.run("sh", "-c", f"head -c 300000 /dev/urandom | {SSH} 'cat > /dev/null'")
    # 2.4 Mbit; the first 32 kB pass at once.
    assert time.monotonic() - begin > 2


@pytest.mark.parametrize("ending", ["reboot", "power cut"])
def test_a_machine_is_back_with_its_disk_after_a(
    plain: Network, machine_b: Host, ending: str
) -> None:
    machine_b.write("/var/lib/mark", ending)
    if ending == "reboot":
        machine_b.reboot()
    else:
        machine_b.cut_power()
        assert not plain.operator.reaches(machine_b.address)
        machine_b.boot()
    assert plain.operator.ssh("machine-b", "cat /var/lib/mark").stdout == ending


def test_a_machine_without_systemd(plain: Network) -> None:
    machine = plain.machine("machine-c", systemd=False)
    try:
        assert machine.run("test", "-e", "/run/systemd/system", check=False).returncode == 1
        machine.write("/etc/rc.local", "#!/bin/sh\nsleep 600 > /dev/null 2>&1 &\n")
        machine.run("chmod", "755", "/etc/rc.local")
        machine.reboot()
        assert machine.run("pgrep", "-fc", "^sleep 600").stdout == "1\n"
        said = plain.operator.ssh("machine-c", "hostname; sudo -n whoami").stdout
        assert said.split() == ["machine-c", "root"]
    finally:
        plain.remove(machine)
    assert "machine-c" not in plain["machine-b"].run("cat", "/etc/hosts").stdout


def test_services_of_one_machine_are_not_those_of_another(
    plain: Network, machine_a: Host, machine_b: Host
) -> None:
    for machine in (machine_a, machine_b):
        machine.run("systemd-run", "--unit=sleeper", "sleep", "600")
    machine_a.run("systemctl", "kill", "--signal=KILL", "sleeper")
    assert machine_b.run("systemctl", "is-active", "sleeper").stdout == "active\n"
    machine_b.run("systemctl", "stop", "sleeper")


def test_what_ssh_finds_wrong(plain: Network, machine_a: Host) -> None:
    def says(words: str) -> bool:
        refused = plain.operator.ssh("machine-a", "sudo -n python3 -V", check=False)
        return refused.returncode != 0 and words in refused.stderr

    with faults.no_python(machine_a):
        assert says("python3: command not found")
    with faults.no_sudo(machine_a):
        assert says("sudo: command not found")
    with faults.no_sshd(machine_a):
        assert says("Connection refused")
    with faults.other_host_key(machine_a):
        assert says("REMOTE HOST IDENTIFICATION HAS CHANGED")
    with faults.silent_sshd(machine_a), pytest.raises(subprocess.TimeoutExpired):
        plain.operator.ssh("machine-a", "true", timeout=2)
    with faults.old_python(machine_a):
        code = "echo 'import sys; print(sys.version_info < (3, 9))' | sudo -n python3 -I -"
        assert plain.operator.ssh("machine-a", code).stdout == "True\n"
    assert plain.operator.ssh("machine-a", "sudo -n python3 -V").stdout.startswith("Python 3.11")


def test_what_is_wrong_with_disks_ports_and_the_clock(plain: Network, machine_a: Host) -> None:
    def writes(path: str) -> str:
        return machine_a.run("sh", "-c", f"echo hello > {path}", check=False).stderr

    machine_a.run("mkdir", "-p", "/var/lib/odd")
    with faults.full_disk(machine_a, "/var/lib/odd"):
        assert "error" in writes("/var/lib/odd/x")
        assert machine_a.run("stat", "-c", "%s", "/var/lib/odd/x").stdout == "0\n"
    with faults.read_only(machine_a, "/var/lib/odd"):
        assert "Read-only file system" in writes("/var/lib/odd/x")
    assert writes("/var/lib/odd/x") == ""
    with faults.port_taken(machine_a, 8786):
        assert plain.operator.reaches("machine-a", 8786)
        with faults.firewall(machine_a, "8786"):
            assert not plain.operator.reaches("machine-a", 8786)
        with faults.firewall(machine_a, "8786", source=plain["machine-b"].address):
            assert plain.operator.reaches("machine-a", 8786)
    assert not plain.operator.reaches("machine-a", 8786)
    clock = "import time; print(time.time() - float(__import__('sys').argv[1]))"
    with wrong_clock(machine_a):
        ahead = float(machine_a.python(clock, str(time.time())))
        command = f'sudo -n {PYTHON} -c "{clock}" {time.time()}'
        for seconds in (ahead, float(plain.operator.ssh("machine-a", command).stdout)):
            assert 3599 < seconds < 3660
    assert abs(float(machine_a.python(clock, str(time.time())))) < 60


def test_a_stranger_is_answered(plain: Network, machine_a: Host) -> None:
    with faults.port_taken(machine_a, 8080):
        found = scan(plain.laptop, machine_a.addresses["outside"])
    assert list(found) == [22, 8080]
    assert found[22].guarded
    assert found[8080] == Answer("HTTP/1.0 200 OK", "", "", "")
    assert not found[8080].guarded


def test_a_program_that_is_killed_takes_its_children_along(plain: Network) -> None:
    process = plain.operator.popen("sh", "-c", "setsid sleep 600 & sleep 600")
    deadline = time.monotonic() + 30
    while len(plain.operator.processes()) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    plain.operator.kill(process)
    while plain.operator.processes():  # a process that was killed takes a moment to be gone
        assert time.monotonic() < deadline + 30
        time.sleep(0.05)


_KILLED = """
import os, signal
from tests.labs.hosts.network import Network
network = Network()
network.machine("machine-a")
network.operator.popen("sleep", "600")
print(network.name, flush=True)
signal.pause()
"""


@pytest.mark.parametrize("ending", ["closed", "killed"])
@pytest.mark.usefixtures("plain")  # where there is no lab, nothing can be left
def test_nothing_is_left(ending: str) -> None:
    if ending == "closed":
        with Network() as network:
            name = network.name
            network.machine("machine-a")
            network.operator.popen("sleep", "600")
    else:
        maker = subprocess.Popen(
            [sys.executable, "-c", _KILLED],
            cwd=CHECKOUT,
            env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        with maker:
            assert maker.stdout is not None
            name = maker.stdout.readline().strip()
            maker.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while found := left(name):
        assert time.monotonic() < deadline, found
        time.sleep(0.1)


def left(name: str) -> list[str]:
    """What there still is of a lab."""
    groups = [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/{name}*")]
    mounts = [line for line in Path("/proc/self/mounts").read_text().splitlines() if name in line]
    said = subprocess.run(["ps", "-eo", "args"], check=True, capture_output=True, text=True).stdout
    processes = [line for line in said.splitlines() if name in line]
    folders = [str(reaper.folder_of(name))] if reaper.folder_of(name).exists() else []
    return [*reaper.namespaces_of(name), *groups, *mounts, *processes, *folders]
