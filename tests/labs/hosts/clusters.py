"""A cluster on the machines of a lab, seen from the operator's chair."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from tests.labs.hosts.base import CHECKOUT
from tests.labs.hosts.host import Host
from tests.labs.hosts.machine import PYTHON
from tests.labs.hosts.network import Network

MACHINES = ("machine-a", "machine-b", "machine-c")


def home_of(machine: str, user: str = "ops") -> str:
    """Folder of a user's clusters on a machine, where they need no root."""
    return f"/home/{user}/.local/state/dask-perennial/{machine}"


#: Everything on a machine that a cluster could leave behind; what changes by itself is left out.
_TRACES = """
find /etc /opt /root /home /run /srv /tmp /usr/local /var -xdev \\
  -not -path '/opt/*/*' -not -path '/var/log/journal*' -not -path '/run/log*' \\
  -not -path '/run/systemd/*' -not -path '/run/user/*' -not -path '/run/udev/*' \\
  -not -path '/var/lib/systemd/*' -not -path '/run/sudo/*' -not -path '/run/lock/lab*' \\
  -not -name '.updated' -not -name '*-' -not -name '.pwd.lock' -not -path '/tmp/systemd-*' \\
  -not -path '/var/tmp/systemd-*' -not -path '/run/sshd.pid' -not -path '/run/motd*' \\
  -printf '%p %U %m\\n' | sort
find /etc/systemd /run/systemd/system /run/systemd/transient /run/credentials -name '*dask*'
getent passwd; getent group
# Root's as well, but for this one; who has just been told to end may take a moment.
running() { ps -eo user,args | grep '[d]ask\\|[p]erennial' | grep -v 'find /etc /opt'; }
for _ in $(seq 50); do [ -n "$(running)" ] || break; sleep 0.2; done
running
grep -ls '^PERENNIAL_FINGERPRINT=' -z /proc/[0-9]*/environ | sed 's/[0-9]\\+/PID/'
if [ -d /run/systemd/system ]; then
  systemctl list-units --all --full --no-legend --plain 'dask*' '*dask*' | awk '{print $1}'
  systemctl list-unit-files --full --no-legend '*dask*'
fi
"""


class Cluster:
    """A cluster that an operator deploys from a cluster file in their home folder.

    Parameters
    ----------
    network : Network
        The lab.
    name : str
        Its name.
    """

    def __init__(self, network: Network, name: str = "lab") -> None:
        self.network = network
        self.name = name
        self.operator = network.operator

    def write(self, text: str) -> None:
        """Write its file."""
        (self.operator.home / "cluster.yaml").write_text(text)

    def perennial(
        self, *words: str, check: bool = True, timeout: float = 200.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a command, as a person types it."""
        return self.operator.run("perennial", *words, check=check, timeout=timeout)

    def up(self) -> str:
        """Deploy; gives what it says it has done: ``7 made``."""
        said = self.perennial("up", "--yes").stdout
        found = re.match(rf"{self.name} is up: (.*) in [\d.]+ s\n", said)
        assert found, said
        return found[1]

    def plan(self, command: str = "plan") -> list[str]:
        """Give the lines of a plan, with single spaces."""
        *lines, last = self.perennial(command).stdout.splitlines()
        count = f"{len(lines)} to change" if lines else "nothing to change"
        assert last == f"{self.name}: {count}"
        return [" ".join(line.split()) for line in lines]

    def refresh(self) -> list[str]:
        """Look at the machines; gives what is other than it was deployed."""
        return self.plan("refresh")

    def services(self) -> dict[str, dict[str, Any]]:
        """What `status` says of each service, by its name."""
        report = json.loads(self.perennial("status", "--json").stdout)
        return {row["service"]: row for row in report["services"]}

    def pids(self) -> dict[str, int]:
        """Process id of each service, by its name."""
        return {name: int(row["pid"]) for name, row in self.services().items()}

    def workers(self) -> int:
        """How many workers the scheduler counts; 0 when it does not answer."""
        report = json.loads(self.perennial("status", "--json").stdout)
        return int(report["scheduler"]["workers"]) if report["scheduler"] else 0

    def client(self, code: str, timeout: float = 120.0) -> str:
        """Run code that uses a plain ``Client()``, which it finds as `client`."""
        connect = "import time\nfrom distributed import Client, wait\nclient = Client(timeout=60)\n"
        return self.operator.python(connect + code, timeout=timeout)

    def start_client(self, code: str) -> subprocess.Popen[str]:
        """Start such code; it says and hears lines."""
        connect = "import time\nfrom distributed import Client, wait\nclient = Client(timeout=60)\n"
        return self.operator.popen(
            sys.executable, "-uc", connect + code, stdin=subprocess.PIPE, cwd=CHECKOUT
        )


def cluster_file(**changes: Any) -> str:
    """Write a cluster file; what is given stands in place of, or beside, the usual keys.

    Parameters
    ----------
    **changes
        Keys of the file and their values, which YAML takes as JSON.
    """
    usual: dict[str, Any] = {
        "name": "lab",
        "platform": "hosts",
        "environment": {"python": PYTHON},
        "workers": {"cpu": {"count": 4, "memory": "512 MiB", "drain": "30 s"}},
        "hosts": {"machines": list(MACHINES)},
    }
    return json.dumps(usual | changes, indent=2) + "\n"


def traces(machine: Host) -> set[str]:
    """List what a cluster could leave behind on a machine: files, users, groups, units."""
    return set(machine.run("sh", "-c", _TRACES, check=False).stdout.splitlines())


def wait_until(condition: Callable[[], object], timeout: float = 90.0, why: str = "") -> None:
    """Wait for something that comes about by itself."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, why
        time.sleep(0.3)


def changed(before: Mapping[str, int], after: Mapping[str, int]) -> set[str]:
    """Name the services whose process is another one, or that came or went."""
    return {name for name in {*before, *after} if before.get(name) != after.get(name)}
