"""A cluster used and looked after from outside: a forwarded port that stays, and `doctor`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from perennial.platforms.kubernetes.client import MANAGER
from tests.homes import wait_until
from tests.labs.kubernetes.lab import Lab
from tests.labs.kubernetes.test_story import home, lab

__all__ = ["home", "lab"]

pytestmark = [pytest.mark.lab, pytest.mark.smoke, pytest.mark.timeout(3000)]

#: What a scientist does; more than any buffer holds goes each way.
WORK = """
import hashlib, os
from distributed import Client

with Client(timeout=30) as client:
    assert client.submit(sum, [1, 2, 3]).result() == 6
    data = os.urandom(30_000_000)
    sent = client.scatter(data)
    digest = client.submit(lambda x: hashlib.sha256(x).hexdigest(), sent).result()
    assert digest == hashlib.sha256(data).hexdigest()
    assert client.submit(lambda x: x, sent).result() == data
    print("worked", client.scheduler.address)
"""
#: Ends the API server and starts it again as it was.
RESTART = """
pid=$(pgrep -x kube-apiserver); mapfile -d '' words </proc/$pid/cmdline
kill -KILL $pid; while kill -0 $pid 2>/dev/null; do sleep 0.1; done; sleep ${0}
setsid "${words[@]}" >/dev/null 2>&1 </dev/null &
"""


class Laptop:
    """Somebody outside, with a kubeconfig."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "state" / "perennial" / "tunnels.d" / "lab"
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("DASK_")},
            "HOME": str(home),
            "XDG_STATE_HOME": str(home / "state"),
        }

    def run(self, *words: str, code: int | None = 0) -> str:
        return self._run("-m", "perennial", *words, code=code)

    def work(self) -> str:
        return self._run("-c", WORK)

    def pid(self) -> int:
        return int(json.loads((self.folder / "status.json").read_text())["pid"])

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def _run(self, *words: str, code: int | None = 0) -> str:
        done = subprocess.run(
            [sys.executable, *words],
            cwd=self.environment["HOME"],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        said = done.stdout + done.stderr
        assert code in (None, done.returncode), said
        return said


@pytest.fixture(scope="module")
def laptop(lab: Lab, home: Path) -> Iterator[Laptop]:
    made = Laptop(home)
    yield made
    made.run("disconnect", code=None)


def test_a_plain_client_works_from_outside(lab: Lab, laptop: Laptop) -> None:
    said = laptop.run("connect", "lab")
    assert "; `perennial connect lab --port-forward` does" in said
    said = laptop.run("connect", "lab", "--port-forward")
    assert "Client() in a new Python process reaches lab at tls://127.0.0.1:" in said
    assert "port-forward by the context lab (" in said
    assert said.splitlines()[0].endswith(": connected")
    assert "worked tls://127.0.0.1:" in laptop.work()
    pid = laptop.pid()
    laptop.run("connect", "lab")
    assert laptop.pid() == pid, "twice is once"
    # Requests to the scaler go the same way.
    assert "autoscaling is paused" in laptop.run("pause")
    assert "autoscaling is resumed" in laptop.run("resume")


def test_the_dashboard_is_opened_by_its_token(laptop: Laptop) -> None:
    url, note = laptop.run("open", "dashboard").splitlines()
    file = Path(note.removeprefix("its token is in "))
    assert file.stat().st_mode & 0o077 == 0
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(url, timeout=20)
    headers = {"Authorization": f"Bearer {file.read_text()}"}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20) as page:
        assert b"Dask" in page.read()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert file.read_bytes() not in path.read_bytes()
        except OSError:
            continue
    assert "no Jupyter" in laptop.run("open", code=1)


def test_it_survives_another_pod_and_another_start_of_the_api_server(
    lab: Lab, laptop: Laptop
) -> None:
    pid = laptop.pid()
    lab.kubectl("-n", "dask", "delete", "pod", "-l", "dask-perennial/part=scheduler", "--now")
    lab.kubectl("-n", "dask", "rollout", "status", "deployment/lab-scheduler")
    assert "worked" in laptop.work()

    env = {**os.environ, "LAB": str(lab.root)}
    script = ["bash", str(lab.root / "lab.sh"), "in", "cp", "bash", "-c", RESTART, "3"]
    subprocess.run(script, env=env, check=True, timeout=60)
    assert "worked" in laptop.work()
    assert laptop.pid() == pid
    assert "Traceback" not in laptop.log()


def test_doctor_names_what_is_wrong_and_what_to_do(lab: Lab, laptop: Laptop) -> None:
    lab.kubectl("-n", "dask", "rollout", "status", "deployment/lab-cpu", "--timeout=120s")
    wait_until(lambda: "0/" not in lab.kubectl("-n", "dask", "get", "deployments"), 60)
    said = laptop.run("doctor", code=None)
    assert "ok       rights: " in said
    assert "ready" in said
    assert "as deployed" in said, said
    assert "ok       versions: python" in said or "warning  versions: " in said
    assert "ok       certificates: good until" in said
    assert "ok       tunnel: port-forward by the context lab" in said
    assert "ok       Client(): reaches lab" in said

    manager = ("--field-manager", f"not-{MANAGER}")

    def patch(kind: str, name: str, text: str) -> None:
        lab.kubectl("-n", "dask", "patch", kind, name, *manager, "--type=merge", "-p", text)

    lab.kubectl("-n", "dask", "delete", "networkpolicy", "lab-cpu")
    patch("poddisruptionbudget", "lab-cpu", '{"spec": {"maxUnavailable": 3}}')
    patch(
        "deployment",
        "lab-big",
        '{"spec": {"template": {"spec": {"nodeSelector": {"pool": "none"}}}}}',
    )
    crash = '[{"op": "replace", "path": "/spec/template/spec/containers/0/command", "value": '
    words = '["python", "-c", "raise ValueError(\'no licence\')"]}]'
    lab.kubectl(
        *("-n", "dask", "patch", "deployment", "lab-cpu", "--type=json"), "-p", crash + words
    )

    def all_found() -> str:
        found = laptop.run("doctor", code=1)
        wanted = ("no node takes it", "ValueError: no licence")
        return found if all(each in found for each in wanted) else ""

    said = wait_until(all_found, 120)
    assert "error    objects: NetworkPolicy lab-cpu is missing; `perennial up` repairs it" in said
    assert "PodDisruptionBudget lab-cpu was edited: spec.maxUnavailable; `perennial up`" in said
    assert "Deployment lab-big was edited: spec.template.spec.nodeSelector" in said
    assert "add a node" in said
    assert "with exit code 1: ValueError: no licence; see `perennial logs lab-cpu-" in said

    lab.kubectl("-n", "dask", "set", "image", "deployment/lab-cpu", "dask=lab.local/none:1")
    wait_until(lambda: "lab.local/none:1: " in laptop.run("doctor", code=1), 120)
    # Only now: no pod of the changes before would have had room.
    lab.kubectl("-n", "dask", "create", "quota", "few", "--hard=pods=9")
    lab.kubectl("-n", "dask", "scale", "deployment/lab-cpu", "--replicas=20")
    wait_until(lambda: "exceeded quota: few" in laptop.run("doctor", code=1), 60)


def test_disconnect_ends_it(laptop: Laptop) -> None:
    pid = laptop.pid()
    assert "the tunnel to lab is closed" in laptop.run("disconnect")
    wait_until(lambda: not Path(f"/proc/{pid}").exists())
