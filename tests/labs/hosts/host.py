"""A machine of a lab's network: its own addresses, sshd, users."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.labs.hosts.machine import Machine

#: Its interface in each of the networks, and how the addresses there begin.
INTERFACES = {"inside": "host0", "outside": "outside0", "fast": "fast0"}
SUBNETS = {"inside": "10.77.0", "outside": "10.78.0", "fast": "10.79.0"}

#: Who may log in with the lab's key, beside root. Only the first may use sudo.
USERS = {"ops": 1000, "nosudo": 1001}

_SSHD = """\
HostKey /etc/ssh/ssh_host_ed25519_key
PasswordAuthentication no
MaxStartups 100:30:200
"""

#: The first process of a machine without systemd.
_INIT = """\
#!/bin/sh
end() {
  trap '' TERM
  kill -TERM -1
  # As init does: those that take longer are killed. By the clock: a look takes a second at times.
  until=$(($(date +%s) + 15))
  while [ "$(date +%s)" -lt $until ]; do
    [ "$(pgrep -vc 'stubinit|^lab-init$|^sleep$')" = 0 ] && break
    sleep 0.1
  done
  exit 0
}
trap end TERM
ip link set lo up
@NETWORK@
mkdir -p /run/sshd
/usr/sbin/sshd
[ ! -x /etc/rc.local ] || /etc/rc.local
while :; do
  sleep 3600 &
  wait $!
done
"""


class Host(Machine):
    """A machine with an address; made by `Network.machine`.

    Parameters
    ----------
    base : pathlib.Path
        Its packages.
    name : str
        Its host name, at most 12 letters: it stands in the names of interfaces.
    lab : str
        Whose machine it is.
    addresses : mapping of str to str
        Its address in each network that it is in; "inside" is one of them.
    key : str
        The public key that may log in.
    systemd : bool
        Whether systemd is its first process. Else a script is, which starts sshd and what
        ``/etc/rc.local`` starts, and sends all a SIGTERM before it ends.
    """

    def __init__(
        self,
        base: Path,
        name: str,
        lab: str,
        addresses: Mapping[str, str],
        key: str,
        systemd: bool = True,
    ) -> None:
        assert len(name) <= 12, name
        self._systemd = systemd
        self.addresses = dict(addresses)
        self._key = key
        super().__init__(base, name, lab)

    @property
    def address(self) -> str:
        """Where the other machines and the operator reach it."""
        return self.addresses["inside"]

    @property
    def host_key(self) -> str:
        """The public key that its sshd shows."""
        path = self._folder / "upper/etc/ssh/ssh_host_ed25519_key.pub"
        return " ".join(path.read_text().split()[:2])

    def wait_until_up(self, timeout: float = 120.0) -> None:
        """Wait until its services have started, it has its addresses and sshd listens."""
        self._wait(self._find_init, timeout)
        for network in self.addresses:
            if network != "inside":
                self._link("set", self._port(network), "master", network, "up")
        super().wait_until_up(timeout)
        self._wait(self._answers, timeout)

    def stop(self, timeout: float = 120.0) -> None:
        """Shut it down as a person would."""
        if self._systemd:
            super().stop(timeout)
        else:
            # By name: where something entered the machine while it was made, that got number 2.
            # What asks for the end is ended as well.
            self.run("pkill", "-TERM", "-x", "lab-init", check=False)
            self._gone(timeout)

    def cut_power(self) -> None:
        """Switch it off between two instructions; nobody hears of it."""
        # First the cable: a kernel that ends a process says so to its peers.
        self.cut()
        super().cut_power()

    def cut(self) -> None:
        """Cut all its networks: nothing comes or goes, and nobody is told."""
        for network in self.addresses:
            self._link("set", self._port(network), "nomaster")

    def mend(self) -> None:
        """Mend its networks."""
        for network in self.addresses:
            self._link("set", self._port(network), "master", network)

    @contextmanager
    def unreachable(self) -> Iterator[None]:
        """Cut its networks for the length of a block."""
        self.cut()
        try:
            yield
        finally:
            self.mend()

    @contextmanager
    def slow(self, rate: str = "1mbit") -> Iterator[None]:
        """Let what is sent to it pass no quicker than this, for the length of a block."""
        port = self._port("inside")
        self._tc("add", "dev", port, "root", "tbf", "rate", rate, "burst", "32k", "latency", "1s")
        try:
            yield
        finally:
            self._tc("del", "dev", port, "root")

    def know(self, names: str) -> None:
        """Write its ``/etc/hosts``."""
        text = f"127.0.0.1 localhost\n::1 localhost\n{names}"
        if self._init:
            self.write("/etc/hosts", text)
        else:
            (self._folder / "upper/etc/hosts").write_text(text)

    def _outside(self) -> tuple[str, ...]:
        # Not `ip netns exec`: that mounts another /sys, in which nspawn finds no control groups.
        return ("nsenter", f"--net=/run/netns/{self._lab}-net")

    def _leash(self) -> tuple[str, ...]:
        # The network's reaper ends it: a thread that starts a machine may end before it.
        return ()

    def _first(self) -> tuple[str, ...]:
        return super()._first() if self._systemd else ("--as-pid2", "/usr/local/sbin/lab-init")

    def _wires(self) -> tuple[str, ...]:
        others = (network for network in self.addresses if network != "inside")
        return (
            f"--machine={self.name}",
            "--network-bridge=inside",
            *(f"--network-veth-extra={self._port(each)}:{INTERFACES[each]}" for each in others),
        )

    def _furnish(self) -> None:
        super()._furnish()
        etc = self._folder / "upper/etc"
        script = self._folder / "upper/usr/local/sbin/lab-init"
        script.parent.mkdir(parents=True)
        orders = "".join(
            f"ip address add {address}/24 dev {device}; ip link set {device} up\n"
            for device, address in (
                (INTERFACES[each], address) for each, address in self.addresses.items()
            )
        )
        script.write_text(_INIT.replace("@NETWORK@", orders))
        script.chmod(0o755)
        for network, address in self.addresses.items():
            path = etc / "systemd/network" / f"10-{network}.network"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(
                f"[Match]\nName={INTERFACES[network]}\n\n"
                f"[Network]\nAddress={address}/24\nIPv6AcceptRA=no\n"
            )
        wanted = etc / "systemd/system/multi-user.target.wants"
        wanted.mkdir(parents=True)
        (wanted / "systemd-networkd.service").symlink_to(
            "/lib/systemd/system/systemd-networkd.service"
        )
        sshd = etc / "ssh/sshd_config.d/lab.conf"
        sshd.parent.mkdir(parents=True)
        sshd.write_text(_SSHD)
        make_key(etc / "ssh/ssh_host_ed25519_key")
        self._add_users(etc)

    def _add_users(self, etc: Path) -> None:
        for name, line in (
            ("passwd", "{user}:x:{number}:{number}::/home/{user}:/bin/bash\n"),
            ("group", "{user}:x:{number}:\n"),
            ("shadow", "{user}:*:19000:0:99999:7:::\n"),
        ):
            shutil.copy2(self._base / "etc" / name, etc / name)
            shutil.chown(etc / name, "root", "shadow" if name == "shadow" else "root")
            with (etc / name).open("a") as file:
                file.writelines(line.format(user=user, number=USERS[user]) for user in USERS)
        sudo = etc / "sudoers.d/lab"
        sudo.parent.mkdir(mode=0o755)
        sudo.write_text("ops ALL=(ALL) NOPASSWD: ALL\n")
        sudo.chmod(0o440)
        homes = {f"home/{user}": number for user, number in USERS.items()} | {"root": 0}
        for home, number in homes.items():
            folder = self._folder / "upper" / home
            (folder / ".ssh").mkdir(parents=True)
            (folder / ".ssh/authorized_keys").write_text(f"{self._key}\n")
            for path, mode in ((folder, 0o700), (folder / ".ssh", 0o700)):
                path.chmod(mode)
            for path in (folder, folder / ".ssh", folder / ".ssh/authorized_keys"):
                os.chown(path, number, number)

    def _is_up(self) -> bool:
        return super()._is_up() if self._systemd else True

    def _answers(self) -> bool:
        said = self.run("sh", "-c", "ss -Hltn sport = :22; ip -4 -o address", check=False).stdout
        there = all(f"inet {address}/" in said for address in self.addresses.values())
        return ":22 " in said and there

    def _port(self, network: str) -> str:
        """Name its port on the switch of a network."""
        return f"vb-{self.name}" if network == "inside" else f"v{network[0]}-{self.name}"

    def _tc(self, *arguments: str) -> None:
        subprocess.run(
            ["tc", "-n", f"{self._lab}-net", "qdisc", *arguments], check=True, capture_output=True
        )

    def _link(self, *arguments: str) -> None:
        subprocess.run(
            ["ip", "-n", f"{self._lab}-net", "link", *arguments],
            check=True,
            capture_output=True,
        )


def make_key(path: Path) -> str:
    """Make an SSH key; returns its public half."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", path], check=True
    )
    return " ".join(Path(f"{path}.pub").read_text().split()[:2])
