"""An ejected cluster under a real systemd: installed as its README says, used, broken, stopped.

The tests run in their order on one machine; each leaves the cluster whole.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path, PurePath

import pytest

from perennial import quoting, render
from perennial.services import Access, Command, Lifecycle, Limits, Service
from tests.labs.hosts.machine import PYTHON, Machine

pytestmark = pytest.mark.lab

CLUSTER = f"""\
name: lab
platform: local
environment: {{python: {PYTHON}}}
scheduler: {{watchdog: 15 s}}
workers:
  cpu: {{count: 2, memory: 1 GiB, drain: 30 s}}
"""
SERVICES = ("dask-lab-scheduler", "dask-lab-cpu@0", "dask-lab-cpu@1", "dask-lab-jupyter")

#: Runs before each piece of code that uses the cluster: a plain Client().
CONNECT = """
import subprocess, sys, time
from distributed import Client
client = Client(timeout=60)
client.wait_for_workers(2, timeout=60)
def systemctl(*arguments):
    subprocess.run(["systemctl", *arguments], check=True)
def workers():
    found = client.sync(client.scheduler.identity, n_workers=-1)["workers"]
    return sorted(each["name"] for each in found.values())
"""


@pytest.fixture(scope="module")
def cluster(machine: Machine) -> Machine:
    """A machine on which a person followed the README."""
    machine.write("/root/cluster.yaml", CLUSTER)
    machine.run(
        "perennial", "render", "/root/cluster.yaml", *("--format", "systemd"), "-o", "/root/out"
    )
    readme = machine.run("cat", "/root/out/README.txt").stdout
    install = readme[readme.index("Install, as root") : readme.index("Operate:")]
    commands = [line.strip() for line in install.splitlines() if line.startswith("  ")]
    machine.run("sh", "-exc", "cd /root/out\n" + "\n".join(commands), timeout=120)
    configuration = re.search(r"\.yaml:\n\n((?:  .*\n)+)", readme)
    assert configuration is not None
    machine.write("/root/.config/dask/lab.yaml", re.sub(r"^  ", "", configuration[1], flags=re.M))
    return machine


def show(machine: Machine, unit: str, setting: str) -> str:
    """A setting or a state of a unit."""
    return machine.run("systemctl", "show", "--value", "-p", setting, unit).stdout.rstrip("\n")


def wait_until(machine: Machine, condition: Callable[[], object], timeout: float = 90.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, logs(machine)
        time.sleep(0.2)


def wait_until_active(machine: Machine, *units: str) -> None:
    wait_until(
        machine, lambda: {show(machine, unit, "ActiveState") for unit in units} == {"active"}
    )


def wait_for_another_process(machine: Machine, unit: str, before: str) -> None:
    wait_until(machine, lambda: show(machine, unit, "MainPID") not in (before, "0"))


def logs(machine: Machine) -> str:
    return machine.run("journalctl", "--no-pager", "-n", "80").stdout


def test_all_services_come_up_as_users_of_their_own(cluster: Machine) -> None:
    wait_until_active(cluster, "dask-lab.target", "dask-lab-cpu.target", *SERVICES)
    for unit in SERVICES:
        pid = show(cluster, unit, "MainPID")
        user = "dask-lab-jupyter" if "jupyter" in unit else "dask-lab"
        assert cluster.run("stat", "-c", "%U", f"/proc/{pid}").stdout.strip() == user
        status = cluster.run("cat", f"/proc/{pid}/status").stdout
        assert "NoNewPrivs:\t1" in status
        assert "CapEff:\t0000000000000000" in status
        assert "Seccomp:\t2" in status
        assert show(cluster, unit, "NRestarts") == "0"
    wait_until(cluster, lambda: "2 workers" in show(cluster, "dask-lab-scheduler", "StatusText"))
    assert show(cluster, "dask-lab-cpu@0", "MemoryMax") == str(int(1.1 * 2**30) + 256 * 2**20)


def test_a_plain_client_computes(cluster: Machine) -> None:
    said = cluster.python(CONNECT + "print(client.submit(sum, range(10)).result(), workers())")
    assert said == "45 ['cpu-0', 'cpu-1']\n"


def test_what_a_task_may_not_do(cluster: Machine) -> None:
    """The fences of the unit, seen from inside."""
    code = """
def attempt(what):
    import ctypes, os, socket
    try:
        if what == "scheduler's key":
            open("/run/credentials/dask-lab-scheduler.service/scheduler-key.pem").read()
        elif what == "authority":
            open("/etc/dask-perennial/lab/tls/ca-key.pem").read()
        elif what == "token":
            open("/var/lib/dask-perennial/lab/secrets/jupyter-token").read()
        elif what == "notebooks":
            os.listdir("/var/lib/dask-perennial/lab/jupyter/notebooks")
        elif what == "system":
            open("/etc/motd", "a").close()
        elif what == "home":
            os.listdir("/root")
        elif what == "raw socket":
            socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        elif what == "namespace":
            os.setns(os.open("/proc/self/ns/net", os.O_RDONLY))
        elif what == "disk":
            open("/dev/vda").close()
    except (OSError, AttributeError) as error:
        return "refused"
    return "allowed"
def write():
    import os, tempfile
    for path in (tempfile.gettempdir() + "/x", "scratch", os.path.expanduser("~/.cached")):
        open(path, "w").close()
    return True
names = ["scheduler's key", "authority", "token", "notebooks", "system", "home"]
names += ["raw socket", "namespace", "disk"]
print({name for name in names if client.submit(attempt, name).result() != "refused"})
print(client.submit(write).result())
"""
    assert cluster.python(CONNECT + code) == "set()\nTrue\n"


def test_jupyter_writes_opens_terminals_and_reaches_the_cluster(cluster: Machine) -> None:
    code = """
import json, urllib.request, urllib.error
token = open("/var/lib/dask-perennial/lab/secrets/jupyter-token").read()
def call(method, path, body=None, token=token):
    request = urllib.request.Request(
        "http://127.0.0.1:8888" + path, method=method,
        data=json.dumps(body).encode() if body is not None else None,
        headers={"Authorization": f"token {token}"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
print(call("GET", "/api/status"), call("GET", "/api/status", token="no"))
print(call("PUT", "/api/contents/a.txt", {"type": "file", "format": "text", "content": "x"}))
print(call("POST", "/api/terminals"), call("GET", "/dashboard/status"))
print(call("PUT", "/lab/api/settings/@jupyterlab/apputils-extension:themes",
           {"raw": '{"theme": "JupyterLab Dark"}'}))
"""
    wait_until(cluster, lambda: ":8888" in cluster.run("ss", "-Htln").stdout)
    assert cluster.python(code) == "200 403\n201\n200 200\n204\n"
    pid = show(cluster, "dask-lab-jupyter", "MainPID")
    environ = cluster.run("cat", f"/proc/{pid}/environ").stdout.split("\0")
    wanted = [each for each in environ if each.startswith(("DASK_", "HOME=", "CREDENTIALS"))]
    kernel = (
        "from distributed import Client; print(Client(timeout=30).submit(sum, [1, 2]).result())"
    )
    # What a kernel does: the same user, variables, mounts and credentials.
    said = cluster.run(
        *("nsenter", "--target", pid, "--mount", "setpriv", "--reuid", "dask-lab-jupyter"),
        *("--regid", "dask-lab-jupyter", "--clear-groups", "env", *wanted, PYTHON, "-c", kernel),
    )
    assert said.stdout == "3\n"


def test_a_worker_that_is_stopped_drains(cluster: Machine) -> None:
    code = """
def slow(path):
    import time
    with open(path, "a") as file:
        file.write("run\\n")
    time.sleep(5)
    return len(open(path).readlines())
found = client.sync(client.scheduler.identity, n_workers=-1)["workers"].items()
address = next(address for address, worker in found if worker["name"] == "cpu-1")
kept = client.scatter(b"x" * 1000, workers=[address])
runs = "/var/lib/dask-perennial/lab/scratch/runs"
task = client.submit(slow, runs, workers=[address], allow_other_workers=True)
time.sleep(1)
begin = time.monotonic()
systemctl("stop", "dask-lab-cpu@1")
seconds = time.monotonic() - begin
print(len(kept.result(timeout=10)), task.result(timeout=10), workers(), 3 < seconds < 29)
systemctl("start", "dask-lab-cpu@1")
client.wait_for_workers(2, timeout=60)
print(workers())
"""
    said = cluster.python(CONNECT + code, timeout=150)
    assert said == "1000 1 ['cpu-0'] True\n['cpu-0', 'cpu-1']\n", logs(cluster)


def test_a_scheduler_that_was_killed_comes_back_with_its_workers(cluster: Machine) -> None:
    before = show(cluster, "dask-lab-scheduler", "MainPID")
    cluster.run("kill", "-9", before)
    wait_for_another_process(cluster, "dask-lab-scheduler", before)
    wait_until_active(cluster, *SERVICES)
    assert cluster.python(CONNECT + "print(workers())", timeout=150) == "['cpu-0', 'cpu-1']\n"


def hung(cluster: Machine, unit: str) -> str:
    """Have a unit hang; once all is whole again, give what its journal says."""
    before = show(cluster, unit, "MainPID")
    cluster.run("kill", "-STOP", before)
    wait_for_another_process(cluster, unit, before)
    wait_until_active(cluster, *SERVICES)
    said = cluster.run("journalctl", "--no-pager", "-u", unit).stdout
    assert "Watchdog timeout (limit 15s)" in said
    assert cluster.python(CONNECT + "print(workers())", timeout=150) == "['cpu-0', 'cpu-1']\n"
    return said


def test_a_scheduler_that_hangs_is_restarted_and_says_where_it_hung(cluster: Machine) -> None:
    assert "Fatal Python error: Aborted" in hung(cluster, "dask-lab-scheduler")


def test_a_nanny_that_hangs_is_restarted_with_its_worker(cluster: Machine) -> None:
    assert show(cluster, "dask-lab-cpu@1", "WatchdogUSec") == "5min"
    dropin = "/etc/systemd/system/dask-lab-cpu@1.service.d/impatient.conf"
    cluster.write(dropin, "[Service]\nWatchdogSec=15s\n")
    cluster.run("systemctl", "daemon-reload")
    cluster.run("systemctl", "restart", "dask-lab-cpu@1", timeout=90)
    hung(cluster, "dask-lab-cpu@1")
    cluster.run("rm", dropin)
    cluster.run("systemctl", "daemon-reload")


AWKWARD = (
    *("%", "%%i", "%d", "$", "$$", "$HOME", "${HOME}", "'", '"', "\\", "\\n", "a\nb", "\ttab"),
    *("", " ", ";", "#", "; #", "über", "*", "~", "-", "@", "a'b\"c", "\x01", "\u2028", "%(here)s"),
)


def test_a_process_is_given_exactly_what_was_rendered(cluster: Machine, tmp_path: Path) -> None:
    code = "import json, os, sys; print(json.dumps([sys.argv[1:], os.environ['AWKWARD']]))"
    text = "".join(word for word in AWKWARD if word.isprintable())
    key = f"{quoting.CREDENTIALS}/key"
    service = Service(
        name="awkward",
        role="scheduler",
        description="Prints what it is given",
        command=Command((PYTHON, "-c", code, *AWKWARD, key), (("AWKWARD", text),), "/tmp"),
        access=Access(writes=("/var/lib/dask-perennial/lab/50 % of it",)),
        limits=Limits(memory=2**30),
        lifecycle=Lifecycle(stop_timeout=5.0),
    )
    for path, unit in render.systemd([service], "odd", {}).items():
        if PurePath(path).suffix in (".service", ".slice"):
            cluster.write(path, unit.replace("User=dask-odd", "User=dask-lab"))
    cluster.run("systemctl", "daemon-reload")
    cluster.run("systemctl", "start", "dask-odd-awkward")
    journal = ("journalctl", "-o", "cat", "-u", "dask-odd-awkward", "_COMM=python")
    wait_until(cluster, lambda: cluster.run(*journal).stdout)
    said = cluster.run(*journal).stdout
    cluster.run("systemctl", "stop", "dask-odd-awkward")
    argv, environment = json.loads(said.splitlines()[0])
    assert argv == [*AWKWARD, "/run/credentials/dask-odd-awkward.service/key"]
    assert environment == text


def test_when_all_stop_together_nobody_waits_for_a_drain(cluster: Machine) -> None:
    code = """
def slow():
    import time
    time.sleep(60)
futures = [client.submit(slow, pure=False) for _ in range(2)]
time.sleep(1)
begin = time.monotonic()
systemctl("stop", "dask-lab.target", "dask-lab.slice")
print(time.monotonic() - begin < 20)
import os
os._exit(0)
"""
    said = cluster.run(PYTHON, "-u", "-c", CONNECT + code, timeout=120).stdout
    assert said == "True\n", logs(cluster)
    for unit in SERVICES:
        assert show(cluster, unit, "ActiveState") == "inactive"
        assert show(cluster, unit, "Result") == "success", (unit, logs(cluster))
    cluster.run("systemctl", "start", "dask-lab.target")
    wait_until_active(cluster, *SERVICES)


@pytest.mark.parametrize("ending", ["reboot", "power cut"])
def test_the_cluster_comes_back_after_a(cluster: Machine, ending: str) -> None:
    if ending == "reboot":
        cluster.reboot()
    else:
        cluster.cut_power()
        cluster.boot()
    wait_until_active(cluster, *SERVICES)
    assert cluster.python(CONNECT + "print(workers())", timeout=150) == "['cpu-0', 'cpu-1']\n"
