"""What can go wrong with a machine. Each has its way back; a machine that is closed needs none.

Cutting a network and cutting the power are methods of `Host`, for they act on it from outside.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.labs.hosts.host import Host
from tests.labs.hosts.machine import Machine

_PYTHON = "/usr/bin/python3"


@contextmanager
def full_disk(machine: Machine, path: str, size: str = "64K") -> Iterator[None]:
    """Have a small disk of its own at a folder, as full as it can be.

    What is in the folder is hidden for the length of the block; the folder is made if missing.
    """
    with small_disk(machine, path, size):
        machine.run("sh", "-c", f"cat /dev/zero > '{path}/full'", check=False)
        yield


@contextmanager
def small_disk(machine: Machine, path: str, size: str = "1M") -> Iterator[None]:
    """Have a small disk of its own at a folder, empty but for what the folder has in it."""
    script = (
        'mkdir -p "$1"; copy=$(mktemp -d); cp -a "$1/." "$copy"\n'
        'mount -t tmpfs -o "size=$2,mode=$(stat -c %a "$1")" lab-disk "$1"\n'
        'cp -a "$copy/." "$1"; rm -r "$copy"'
    )
    machine.run("sh", "-ec", script, "sh", path, size)
    try:
        yield
    finally:
        # Programs that have a file open there keep it.
        machine.run("umount", "--lazy", path)


@contextmanager
def read_only(machine: Machine, path: str) -> Iterator[None]:
    """Have a folder that nobody, not even root, can write to: a disk after an error."""
    machine.run("mount", "--bind", path, path)
    machine.run("mount", "-o", "remount,bind,ro", path)
    try:
        yield
    finally:
        machine.run("umount", "--lazy", path)


@contextmanager
def no_python(machine: Machine) -> Iterator[None]:
    """Have no ``python3`` on the path."""
    machine.run("mv", _PYTHON, f"{_PYTHON}.hidden")
    try:
        yield
    finally:
        machine.run("mv", f"{_PYTHON}.hidden", _PYTHON)


@contextmanager
def old_python(machine: Machine, version: tuple[int, int, int] = (3, 7, 3)) -> Iterator[None]:
    """Have a ``python3`` that says it is older than it is.

    It still understands the newer language: what is tested is who asks, and when. Works in
    isolated mode as well.
    """
    text = ".".join(map(str, version))
    named = ", ".join(
        f"{name}={value!r}"
        for name, value in zip(
            ("major", "minor", "micro", "releaselevel", "serial"),
            (*version, "final", 0),
            strict=True,
        )
    )
    code = (
        "import sys\nfrom collections import namedtuple as _tuple\n"
        "_names = 'major minor micro releaselevel serial'\n"
        f"sys.version_info = _tuple('version_info', _names)({named})\n"
        f"sys.version = '{text} (default)'\n"
        f"sys.hexversion = {(version[0] << 24) + (version[1] << 16) + (version[2] << 8) + 0xF0}\n"
    )
    place = "/etc/python3.11/sitecustomize.py"
    before = machine.run("cat", place).stdout
    machine.write(place, code)
    try:
        yield
    finally:
        machine.write(place, before)


@contextmanager
def no_sudo(machine: Machine) -> Iterator[None]:
    """Have no ``sudo`` at all."""
    machine.run("mv", "/usr/bin/sudo", "/usr/bin/sudo.hidden")
    try:
        yield
    finally:
        machine.run("mv", "/usr/bin/sudo.hidden", "/usr/bin/sudo")


@contextmanager
def no_sshd(machine: Machine) -> Iterator[None]:
    """Have nothing that listens for SSH; connections that are there stay."""
    machine.run("systemctl", "stop", "ssh")
    try:
        yield
    finally:
        machine.run("systemctl", "start", "ssh")


@contextmanager
def silent_sshd(machine: Machine) -> Iterator[None]:
    """Have an sshd that accepts connections and never says a word."""
    pid = machine.run("systemctl", "show", "--value", "-p", "MainPID", "ssh").stdout.strip()
    machine.run("kill", "-STOP", pid)
    try:
        yield
    finally:
        machine.run("kill", "-CONT", pid)


@contextmanager
def other_host_key(machine: Host) -> Iterator[None]:
    """Show a host key that nobody knows."""
    key = "/etc/ssh/ssh_host_ed25519_key"
    machine.run("sh", "-ec", f"mv {key} {key}.old; mv {key}.pub {key}.pub.old")
    machine.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
    machine.run("systemctl", "restart", "ssh")
    try:
        yield
    finally:
        machine.run("sh", "-ec", f"mv {key}.old {key}; mv {key}.pub.old {key}.pub")
        machine.run("systemctl", "restart", "ssh")


@contextmanager
def port_taken(machine: Machine, port: int) -> Iterator[None]:
    """Have somebody else listen on a port."""
    unit = f"lab-port-{port}"
    machine.run("systemd-run", f"--unit={unit}", _PYTHON, "-m", "http.server", str(port))
    deadline = time.monotonic() + 30
    while f":{port} " not in machine.run("ss", "-Hltn", f"sport = :{port}").stdout:
        assert time.monotonic() < deadline, port
        time.sleep(0.1)
    try:
        yield
    finally:
        machine.run("systemctl", "stop", unit)


@contextmanager
def firewall(
    machine: Machine, ports: str, source: str | None = None, verdict: str = "drop"
) -> Iterator[None]:
    """Have a firewall that lets nobody, or one source not, connect to some ports.

    Parameters
    ----------
    machine : Machine
        Whose firewall.
    ports : str
        A port, or a range as ``10000-20000``. What is connected already is cut as well.
    source : str, optional
        The address that is kept out. Default: every one but the machine itself.
    verdict : str
        ``drop``: nothing comes back. ``reject``: a refusal does.
    """
    table = "lab"
    who = f"ip saddr {source}" if source else 'iifname != "lo"'
    action = "reject with tcp reset" if verdict == "reject" else verdict
    rules = (
        f"table inet {table} {{ chain input {{ type filter hook input priority 0;\n"
        f"{who} tcp dport {ports} {action}\n}}\n}}\n"
    )
    machine.write("/run/lab.nft", rules)
    machine.run("nft", "-f", "/run/lab.nft")
    try:
        yield
    finally:
        machine.run("nft", "delete", "table", "inet", table)
