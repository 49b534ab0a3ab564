"""What a stranger finds on the machines of a cluster, and where its secrets are.

First under systemd, then the same cluster under supervisord.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.labs.hosts.base import CHECKOUT
from tests.labs.hosts.clusters import Cluster, cluster_file, home_of, wait_until
from tests.labs.hosts.host import Host
from tests.labs.hosts.network import Network
from tests.labs.hosts.scan import Answer, scan
from tests.labs.hosts.seat import Seat

pytestmark = pytest.mark.lab

MACHINES = ("machine-a", "machine-b")
#: The most that `systemd-analyze security` may say, of 10.
EXPOSURE = {
    ("machine-a", "dask-lab-scheduler.service"): 1.5,
    ("machine-a", "dask-lab-cpu@0.service"): 1.7,
    ("machine-b", "dask-lab-cpu@0.service"): 1.7,
    ("machine-a", "dask-lab-jupyter.service"): 2.0,
}
#: Lists files that hold one of the secrets, and processes that show one.
_SEARCH = """
import json, os, sys
needles = [line.encode() for line in open("/run/needles").read().split()]
found = []
for top, folders, names in os.walk("/"):
    skipped = ("/proc", "/sys", "/dev", "/opt", "/usr", *sys.argv[1:])
    folders[:] = [name for name in folders if os.path.join(top, name) not in skipped]
    for path in (os.path.join(top, name) for name in names):
        if path == "/run/needles" or not os.path.isfile(path) or os.path.islink(path):
            continue
        try:
            data, mode = open(path, "rb").read(), os.stat(path).st_mode & 0o777
        except FileNotFoundError:  # it was there a moment ago
            continue
        if any(needle in data for needle in needles):
            found.append([path, mode])
shown = []
for pid in filter(str.isdecimal, os.listdir("/proc")):
    for name in ("cmdline", "environ"):
        try:
            data = open(f"/proc/{pid}/{name}", "rb").read()
        except OSError:
            continue
        if any(needle in data for needle in needles):
            shown.append([pid, name])
print(json.dumps([found, shown]))
"""
#: Sent to the scheduler's port by a stranger.
_HARM = """
import socket, ssl, sys, time
host, port = sys.argv[1], 8786
held = [socket.create_connection((host, port)) for _ in range(50)]
for said in (b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n", b"\\x00" * 4096, b"\\xff" * 65536,
             b"\\x16\\x03\\x01\\x02\\x00\\x01"):
    with socket.create_connection((host, port)) as one:
        one.sendall(said)
        one.settimeout(2)
        try:
            while one.recv(4096):
                pass
        except OSError:
            pass
stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
stranger.check_hostname, stranger.verify_mode = False, ssl.CERT_NONE
try:
    with stranger.wrap_socket(socket.create_connection((host, port))) as one:
        one.sendall(b"\\x00" * 64)
        print("let in" if one.recv(1) else "refused", flush=True)
except OSError:
    print("refused", flush=True)
sys.stdin.readline()
"""


@pytest.fixture(scope="module")
def machines(network: Network) -> list[Host]:
    """Two machines that stand on the laptop's network as well."""
    made = [network.add(name, "outside") for name in MACHINES]
    network.boot(*made)
    return made


@pytest.fixture(scope="module", params=["systemd", "supervisord"])
def lab(network: Network, machines: list[Host], request: pytest.FixtureRequest) -> Cluster:
    """A cluster with a worker on the machine of the scheduler and Jupyter, and one elsewhere."""
    assert machines
    made = Cluster(network)
    roles: dict[str, list[Any]] = {
        "machine-a": ["scheduler", "jupyter", {"cpu": 1}],
        "machine-b": [{"cpu": 1}],
    }
    hosts = {
        "init": request.param,
        "machines": [{"address": name, "roles": each} for name, each in roles.items()],
    }
    workers = {"cpu": {"memory": "512 MiB", "drain": "5 s"}}
    made.write(cluster_file(hosts=hosts, workers=workers))
    made.up()
    wait_until(lambda: made.workers() == 2)
    return made


@pytest.fixture
def init(lab: Cluster) -> str:
    """What the cluster runs under."""
    booted = lab.network["machine-a"].run("systemctl", "is-enabled", "dask-lab.target", check=False)
    return "systemd" if booted.returncode == 0 else "supervisord"


@pytest.fixture
def secrets(lab: Cluster, init: str) -> dict[str, str]:
    """The secrets of the cluster, each by a part that no other text has."""
    folder = _state(lab) / "pulumi"
    env = {
        "PULUMI_BACKEND_URL": folder.as_uri(),
        "PULUMI_CONFIG_PASSPHRASE_FILE": str(folder / "passphrase"),
        "PULUMI_HOME": str(folder / "home"),
    }
    export = ("pulumi", "stack", "export", "--show-secrets", "--stack", "lab")
    text = lab.operator.run(*export, cwd=folder, env=env).stdout
    state = json.loads(text)["deployment"]["resources"]
    (authority,) = (each for each in state if each["type"].endswith(":Authority"))
    outputs = {
        name: json.loads(value["plaintext"]) if isinstance(value, dict) else value
        for name, value in authority["outputs"].items()
    }
    found = {
        "ca_key": _needle(outputs["ca_key"]),
        "client_key": _needle(outputs["client_key"]),
        "token": outputs["token"],
        "passphrase": (folder / "passphrase").read_text().strip(),
    }
    for name in MACHINES:
        tls = "/etc/dask-perennial/lab/tls" if init == "systemd" else f"{home_of(name)}/lab/tls"
        keys = lab.network[name].run("sh", "-ec", f"cat {tls}/*-key.pem")
        for number, key in enumerate(keys.stdout.split("-----BEGIN")[1:]):
            found[f"{name} {number}"] = _needle(key)
    assert len(found) == 9  # scheduler, worker, client, jupyter; worker
    assert all(len(needle) > 20 for needle in found.values())
    return found


def _needle(pem: str) -> str:
    """A line in the middle of a key."""
    return pem.strip().splitlines()[1].strip()[10:60]


def _state(lab: Cluster) -> Path:
    return lab.operator.home / ".local/state/perennial/lab"


def _strangers(lab: Cluster) -> Iterator[tuple[Seat, str]]:
    """Places from which somebody looks at a machine, and its address there."""
    for name in MACHINES:
        yield lab.network.laptop, lab.network[name].addresses["outside"]
        yield lab.operator, lab.network[name].address


def refuses(seat: Seat, address: str, port: int, answer: Answer | None) -> bool:
    """Whether a port tells a stranger nothing, or is gone.

    Who is slow to refuse, on a busy machine, is asked again; who has told something once is not.
    """
    for _ in range(6):
        if answer is None or answer.guarded:
            return True
        if answer.told:
            return False
        answer = scan(seat, address, range(port, port + 1)).get(port)
    return False


def test_every_open_port_needs_a_certificate_or_a_login(lab: Cluster) -> None:
    found = {}
    for seat, address in _strangers(lab):
        ports = scan(seat, address)
        for port, answer in ports.items():
            assert refuses(seat, address, port, answer), (address, port, answer)
        found[address] = ports
    for address, ports in found.items():
        if address.startswith("10.78."):  # services listen on the other network alone
            assert set(ports) == {22}
    inside = found[lab.network["machine-a"].address]
    assert {22, 8786, 8888} < set(inside)
    assert 8787 not in inside


def test_a_stranger_does_the_scheduler_no_harm(lab: Cluster) -> None:
    before = lab.services()["scheduler"]
    address = lab.network["machine-a"].address
    stranger = lab.operator.popen("python3", "-ISc", _HARM, address, stdin=-1)
    assert stranger.stdout is not None
    assert stranger.stdout.readline() == "refused\n"
    # The half-open connections are still there.
    assert lab.client("print(client.submit(sum, [1, 2]).result())") == "3\n"
    stranger.communicate("\n", timeout=60)
    after = lab.services()["scheduler"]
    assert (after["pid"], after["restarts"]) == (before["pid"], before["restarts"])
    assert after["memory"] < before["memory"] + 100 * 2**20


def test_no_secret_is_where_others_see_it(lab: Cluster, secrets: dict[str, str]) -> None:
    needles = "\n".join(secrets.values())
    for name in MACHINES:
        machine = lab.network[name]
        machine.write("/run/needles", needles)
        machine.run("chmod", "600", "/run/needles")
        files, shown = json.loads(machine.python(_SEARCH, str(CHECKOUT), timeout=120))
        machine.run("rm", "/run/needles")
        assert shown == [], name
        assert any(path.endswith("/worker-key.pem") for path, _ in files)
        assert [path for path, mode in files if mode & 0o077] == [], name
        # Nothing of the operator's own ever comes to a machine.
        assert [path for path, _ in files if "/log" in path or path.endswith("manifest.json")] == []
        journal = machine.run("journalctl", "--no-pager", "-a", "-o", "cat").stdout
        assert [what for what, needle in secrets.items() if needle in journal] == []


def test_no_secret_is_among_the_operators_processes(lab: Cluster, secrets: dict[str, str]) -> None:
    described = json.loads((lab.operator.home / "cluster.yaml").read_text())
    # Without a change nobody would ask the engine.
    described["workers"]["cpu"]["memory"] = "513 MiB"
    lab.write(json.dumps(described))
    work = lab.operator.popen("perennial", "up", "--yes")
    seen: dict[str, str] = {}
    while work.poll() is None:
        seen |= _processes(lab.operator)
        time.sleep(0.1)
    said, errors = work.communicate()
    assert work.returncode == 0, said + errors
    for program in ("perennial\0up\0", "pulumi\0--non-interactive\0up\0"):
        assert any(program in line for line in seen), seen.keys()
    for line, shown in seen.items():
        found = [what for what, needle in secrets.items() if needle in line + shown]
        assert found == [], line


def _processes(seat: Seat) -> dict[str, str]:
    """Environment of each process of a seat, by its command line."""
    found = {}
    for pid in seat.processes():
        with contextlib.suppress(OSError):  # it has ended
            line, shown = (
                Path(f"/proc/{pid}/{part}").read_text(errors="replace")
                for part in ("cmdline", "environ")
            )
            found[line] = shown
    return found


def test_authority_and_passphrase_are_on_no_machine(lab: Cluster, secrets: dict[str, str]) -> None:
    for name in MACHINES:
        machine = lab.network[name]
        machine.write("/run/needles", f"{secrets['ca_key']}\n{secrets['passphrase']}")
        found = json.loads(machine.python(_SEARCH, str(CHECKOUT), timeout=120))
        machine.run("rm", "/run/needles")
        assert found == [[], []], name


def test_the_operators_state_is_the_operators_alone(lab: Cluster, secrets: dict[str, str]) -> None:
    known = {
        "tls/client-key.pem": "client_key",
        "secrets/jupyter-token": "token",
        "pulumi/passphrase": "passphrase",
    }
    held = {}
    # Nobody else comes as far as what the engine writes inside.
    assert _state(lab).stat().st_mode & 0o777 == 0o700
    for path in sorted(lab.operator.home.rglob("*")):
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            for what, needle in secrets.items():
                if needle.encode() in data:
                    held[path.relative_to(_state(lab)).as_posix()] = what
    assert held == known
    for name in ("cluster.yaml", "state.json", "connection.json", *known):
        assert (_state(lab) / name).stat().st_mode & 0o777 == 0o600, name


def test_units_are_fenced_in(lab: Cluster, init: str) -> None:
    if init != "systemd":
        pytest.skip("supervisord fences nothing in")
    for (name, unit), most in EXPOSURE.items():
        said = lab.network[name].run("systemd-analyze", "security", "--no-pager", unit).stdout
        level = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
        assert level, said
        assert float(level[1]) <= most, (name, unit, said)


def test_a_task_reads_no_secret_but_its_workers_own(lab: Cluster, init: str) -> None:
    code = """
def look():
    import glob, os
    found = []
    for top in ("/etc/dask-perennial", "/var/lib/dask-perennial", "/run/credentials", "/root"):
        for folder, _, names in os.walk(top):
            for path in (os.path.join(folder, name) for name in names):
                try:
                    open(path, "rb").read()
                except OSError:
                    continue
                if path.endswith((".pem", "token", "manifest.json")):
                    found.append(path)
    for path in glob.glob("/proc/[0-9]*/environ"):
        try:
            if b"jupyter" in open(path, "rb").read():
                found.append(path)
        except OSError:
            pass
    return found
own = ("/run/credentials/dask-lab-cpu@0.service/", "/var/lib/dask-perennial/lab/scratch/")
for found in client.run(look).values():
    print([path for path in found if not path.startswith(own)])
"""
    if init != "systemd":
        pytest.skip("under supervisord all services of a machine are one user's")
    assert lab.client(code) == "[]\n[]\n"
