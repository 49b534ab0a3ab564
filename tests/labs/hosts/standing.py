"""A cluster on the lab's machines, and a picture of all that it is there.

Two deploys that end in the same state give equal pictures: what differs by nature, such as
certificates and process ids, is left out.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml

from tests.labs.hosts.host import Host
from tests.labs.hosts.machine import PYTHON
from tests.labs.hosts.network import Network

#: The cluster of the tests; its first machine has the scheduler, the others one worker each.
NAME = "lab"
MACHINES = ("machine-a", "machine-b", "machine-c")

#: What a test's client begins with.
CLIENT = """
import sys, time
from distributed import Client
client = Client(timeout=60)
def workers():
    found = client.sync(client.scheduler.identity, n_workers=-1)["workers"]
    return sorted(each["name"] for each in found.values())
def await_workers(number, timeout):
    begin = time.monotonic()
    while len(workers()) != number:
        assert time.monotonic() < begin + timeout, workers()
        time.sleep(0.1)
    return time.monotonic() - begin
"""

#: Printed on a machine: files, units, users and processes of all clusters there.
_PICTURE = r"""
import grp, hashlib, json, os, pwd, subprocess, sys
changing = (".pem", ".lock", "/manifest.json", "/jupyter-token", "/pages/token")
inner = ("/scratch/", "/jupyter/")
def entry(path):
    state = os.lstat(path)
    who = [names(n)[0] for names, n in
           ((pwd.getpwuid, state.st_uid), (grp.getgrgid, state.st_gid))]
    what = None
    if os.path.islink(path):
        what = os.readlink(path)
    elif os.path.isfile(path) and not path.endswith(changing):
        what = hashlib.sha256(open(path, "rb").read()).hexdigest()[:16]
    return [oct(state.st_mode), *who, what]
files = {}
for top in ("/etc", "/var/lib", "/var/spool", "/run/dask-perennial", "/usr/local",
            "/home", "/root"):
    for folder, folders, names in os.walk(top):
        folders[:] = [each for each in folders if not os.path.ismount(os.path.join(folder, each))]
        for path in (os.path.join(folder, each) for each in (*folders, *names)):
            if "dask" in path and not any(part in path for part in inner):
                files[path] = entry(path)
manifests = {}
for path in files:
    if path.endswith("/manifest.json"):
        found = json.load(open(path))
        found["certificates"] = sorted(found.get("certificates", {}))
        found["expected"] = {name: state[1:] if name.endswith(changing) else state
                             for name, state in found.get("expected", {}).items()}
        manifests[path] = found
def systemctl(*words):
    said = subprocess.run(("systemctl", *words, "dask-*", "--all", "--plain", "--no-legend"),
                          capture_output=True, text=True).stdout
    return [line.split() for line in said.splitlines()]
units = {line[0]: line[1:4] for line in systemctl("list-units") if line[2] != "inactive"}
processes = []
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        environ = open(f"/proc/{pid}/environ", "rb").read().split(b"\0")
        parent = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1]
        unit = open(f"/proc/{pid}/cgroup").read().strip().rpartition("/")[2]
    except OSError:
        continue
    mark = [each.decode() for each in environ if each.startswith(b"PERENNIAL_FINGERPRINT=")]
    if mark and parent == "1":
        processes.append([unit, *mark])
print(json.dumps({
    "files": files, "manifests": manifests, "units": units, "processes": sorted(processes),
    "enabled": sorted(line[:2] for line in systemctl("list-unit-files")),
    "users": sorted([u.pw_name, u.pw_dir, u.pw_shell] for u in pwd.getpwall() if "dask" in u[0]),
    "groups": sorted(g.gr_name for g in grp.getgrall() if "dask" in g.gr_name),
}))
"""


class Standing:
    """A cluster described for the machines of a network; its file is the operator's.

    Parameters
    ----------
    network : Network
        The machines, and the operator who deploys.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.operator = network.operator
        self.spec: dict[str, Any] = {
            "name": NAME,
            "platform": "hosts",
            "environment": {"python": PYTHON},
            "jupyter": None,
            "workers": {"cpu": {"memory": "512 MiB", "drain": "10 s"}},
            "hosts": {},
        }
        self.place(*MACHINES)

    def place(self, scheduler: str, *others: str, workers: int = 1) -> None:
        """Put the scheduler on one machine and so many workers on each of the others."""
        self.spec["hosts"]["machines"] = [
            {"address": scheduler, "roles": ["scheduler"]},
            *({"address": each, "roles": [{"cpu": workers}]} for each in others),
        ]
        self.write()

    def memory(self, size: str) -> None:
        """Give workers another limit: their fingerprint changes."""
        self.spec["workers"]["cpu"]["memory"] = size
        self.write()

    def write(self) -> None:
        """Write the cluster file."""
        (self.operator.home / "cluster.yaml").write_text(yaml.safe_dump(self.spec))

    def run(
        self, *words: str, check: bool = True, timeout: float = 300.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of the operator's."""
        return self.operator.run("perennial", *words, check=check, timeout=timeout)

    def up(self, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Deploy what the cluster file says."""
        return self.run("up", "--yes", check=check)

    def down(self) -> None:
        """Take all of it away."""
        self.run("down", "-c", NAME, "--force")

    def python(self, code: str, timeout: float = 150.0) -> str:
        """Run a client; returns what it printed."""
        return self.operator.python(CLIENT + code, timeout=timeout)

    def workers(self) -> list[str]:
        """Names of the workers that have registered, as often as they have."""
        found: list[str] = json.loads(self.python("import json; print(json.dumps(workers()))"))
        return found

    def picture(self) -> dict[str, Any]:
        """See what is there: on each machine, in the operator's state, at the scheduler."""
        state = self.operator.home / ".local/state/perennial" / NAME
        machines = {
            name: json.loads(machine.run("python3", "-I", "-c", _PICTURE).stdout)
            for name, machine in self.network.all().items()
        }
        engine = state / f"pulumi/.pulumi/stacks/perennial/{NAME}.json"
        latest = json.loads(engine.read_text())["checkpoint"]["latest"] if engine.exists() else {}
        journal = state / "pulumi/machines.json"
        up = any(machine["processes"] for machine in machines.values())
        return {
            "machines": machines,
            "resources": sorted(each["urn"] for each in latest.get("resources") or []),
            "pending": latest.get("pending_operations") or [],
            "drift": [
                each["urn"]
                for each in latest.get("resources") or []
                if each.get("outputs", {}).get("drift")
            ],
            "journal": sorted(json.loads(journal.read_text())) if journal.exists() else [],
            "locks": [str(path) for path in (state / "pulumi/.pulumi").glob("locks/**/*.json")],
            "left": [str(path) for path in state.rglob("*.tmp")],
            "workers": self.workers() if up else [],
            "operator": len(self.operator.processes()),
        }


def complaints(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Lines in which a command said what is wrong: all but its progress and its warnings."""
    usual = (f"{NAME}: ", "warning: ")
    return [line for line in done.stderr.splitlines() if line and not line.startswith(usual)]


def difference(one: Any, other: Any, path: str = "") -> list[str]:
    """List where two pictures differ."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        keys = sorted({*one, *other})
        return [
            line
            for key in keys
            for line in difference(one.get(key), other.get(key), f"{path}[{key}]")
        ]
    return [] if one == other else [f"{path}: {one} is now {other}"]


def wait_until(condition: Callable[[], object], timeout: float = 60.0) -> float:
    """Wait for a condition; returns the seconds that it took."""
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() < begin + timeout, f"not so after {timeout} s"
        time.sleep(0.1)
    return time.monotonic() - begin


def show(machine: Host, unit: str, setting: str) -> str:
    """A setting or a state of a unit."""
    return machine.run("systemctl", "show", "--value", "-p", setting, unit).stdout.rstrip("\n")


def cleared(picture: Mapping[str, Any], names: Sequence[str], but: Sequence[str] = ()) -> bool:
    """Whether nothing of a cluster is on these machines, but for some files."""
    found = [picture["machines"][name] for name in names]
    files = {path for machine in found for path in machine["files"]} - {*but}
    return not files and not any(
        machine[key] for machine in found for key in machine if key != "files"
    )
