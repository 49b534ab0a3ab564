"""Machines on a network of their own, an operator beside them, a laptop outside.

Three networks, which nothing connects but machines that stand in two of them:

* ``inside``: every machine and the operator;
* ``outside``: the laptop, and the machines that were asked for there (a bastion);
* ``fast``: a second one between machines, as InfiniBand is.

All are bridges in one network namespace; operator and laptop have a namespace each. None of
them leads anywhere else. What a lab started ends with it, also when the process that made it was
killed: see `tests.labs.hosts.reaper`.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.labs.hosts import reaper
from tests.labs.hosts.base import make_base
from tests.labs.hosts.host import SUBNETS, Host, make_key
from tests.labs.hosts.seat import Seat


class Network:
    """A lab: use it as a context, and ask it for machines.

    Parameters
    ----------
    engine : pathlib.Path, optional
        Folder of the Pulumi engine (`tests.labs.pulumi.engine`), for the ``PATH`` of its seats.
    """

    def __init__(self, engine: Path | None = None) -> None:
        self._base = make_base()
        self._engine = engine
        self.name = reaper.new_lab()
        self._seats: dict[str, Seat] = {}
        self._machines: dict[str, Host] = {}
        self._numbers = itertools.count(11)
        self.folder = reaper.folder_of(self.name)
        self._reaper = subprocess.Popen(
            [sys.executable, "-I", reaper.__file__, self.name],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __getitem__(self, name: str) -> Host:
        return self._machines[name]

    def all(self) -> dict[str, Host]:
        """Every machine by its name."""
        return dict(self._machines)

    @property
    def operator(self) -> Seat:
        """Who deploys: reaches every machine."""
        return self._seats["op"]

    @property
    def laptop(self) -> Seat:
        """Who has a laptop elsewhere: reaches only machines that stand outside as well."""
        return self._seats["out"]

    def machine(self, name: str, *also: str, systemd: bool = True) -> Host:
        """Add a machine and boot it.

        Parameters
        ----------
        name : str
            Its host name, at most 12 letters.
        *also : str
            Further networks that it stands in: ``outside``, ``fast``.
        systemd : bool
            Whether systemd is its first process; else nothing there supervises anything.
        """
        made = self.add(name, *also, systemd=systemd)
        made.boot()
        return made

    def machines(self, *names: str) -> list[Host]:
        """Add machines and boot them side by side."""
        made = [self.add(name) for name in names]
        self.boot(*made)
        return made

    def add(self, name: str, *also: str, systemd: bool = True) -> Host:
        """Add a machine as `machine` does; it is not booted."""
        assert name not in self._machines, name
        number = next(self._numbers)
        addresses = {each: f"{SUBNETS[each]}.{number}" for each in ("inside", *also)}
        made = Host(self._base, name, self.name, addresses, self._key, systemd)
        self._machines[name] = made
        self.introduce()
        return made

    def remove(self, machine: Host) -> None:
        """Take a machine away for good: its disk, its name, its address."""
        machine.close()
        del self._machines[machine.name]
        self.introduce()

    def boot(self, *machines: Host) -> None:
        """Boot machines side by side."""
        for machine in machines:
            machine.switch_on()
        with ThreadPoolExecutor(max_workers=4) as pool:
            list(pool.map(Host.wait_until_up, machines))
        # Who came up while names were told may have missed some.
        self.introduce()

    def introduce(self) -> None:
        """Tell everybody the names, addresses and SSH keys of all machines, as they are now."""
        inside = f"{SUBNETS['inside']}.2 operator\n" + self._names("inside")
        for machine in self._machines.values():
            machine.know(inside)
        self.operator.know(inside, self._keys("inside"))
        self.laptop.know(self._names("outside"), self._keys("outside"))

    def close(self) -> None:
        """Take everything away."""
        with ThreadPoolExecutor(max_workers=8) as pool:
            list(pool.map(Host.close, self._machines.values()))
        assert self._reaper.stdin is not None
        self._reaper.stdin.close()
        self._reaper.wait(60)

    def _build(self) -> None:
        self.folder.mkdir(mode=0o755)
        self._key = make_key(self.folder / "key")
        net = f"{self.name}-net"
        _ip("netns", "add", net)
        for network in SUBNETS:
            _ip("-n", net, "link", "add", network, "type", "bridge")
            # Nothing of the lab's own has an address on a bridge: not even a link-local one.
            _set(net, f"net.ipv6.conf.{network}.disable_ipv6", "1")
            _ip("-n", net, "link", "set", network, "up")
        self._seats["op"] = self._seat("op", "inside")
        self._seats["out"] = self._seat("out", "outside")

    def _seat(self, name: str, network: str) -> Seat:
        net, own = f"{self.name}-net", f"{self.name}-{name}"
        _ip("netns", "add", own)
        _ip("-n", own, "link", "set", "lo", "up")
        _ip("-n", net, *("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", own))
        _ip("-n", net, "link", "set", name, "master", network, "up")
        _ip("-n", own, "address", "add", f"{SUBNETS[network]}.2/24", "dev", "eth0")
        _ip("-n", own, "link", "set", "eth0", "up")
        home = self.folder / name
        (home / ".ssh").mkdir(mode=0o700, parents=True)
        home.chmod(0o700)
        key = home / ".ssh/id_ed25519"
        key.write_bytes((self.folder / "key").read_bytes())
        key.chmod(0o600)
        return Seat(own, home, self._engine)

    def _names(self, network: str) -> str:
        return "".join(
            f"{machine.addresses[network]} {name}\n"
            for name, machine in self._machines.items()
            if network in machine.addresses
        )

    def _keys(self, network: str) -> str:
        return "".join(
            f"{name},{machine.addresses[network]} {machine.host_key}\n"
            for name, machine in self._machines.items()
            if network in machine.addresses
        )


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], check=False, capture_output=True, text=True)
    assert not done.returncode, (arguments, done.stderr)


def _set(namespace: str, key: str, value: str) -> None:
    path = f"/proc/sys/{key.replace('.', '/')}"
    command = ["nsenter", f"--net=/run/netns/{namespace}", "sh", "-c", f"echo {value} > {path}"]
    subprocess.run(command, check=True)
