"""What is mounted in pods: enough for an image that has Dask alone, and one line for others."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from distributed import Client

from perennial.errors import SpecError
from perennial.isolated.packages import installed
from perennial.platforms.kubernetes import code, start
from perennial.platforms.kubernetes.manifests import manifests
from perennial.spec import ClusterSpec, loads
from tests.homes import wait_until
from tests.ports import free_ports

ROOT = Path(__file__).parents[3]
#: Folders of a container.
FOLDERS = ("/etc/dask-perennial", "/var/lib/dask-perennial", "/run/dask-perennial")


def spec_of(**changes: Any) -> ClusterSpec:
    usual = {
        "name": "lab",
        "platform": "kubernetes",
        "workers": {"cpu": {"memory": "512 MiB", "drain": "1 s"}},
        "security": {"tls": False},
        "jupyter": None,
        "kubernetes": {"image": "dask:1"},
    }
    return loads(yaml.safe_dump({**usual, **changes}))


class Pod:
    """A container's commands and files, with its folders moved to one of this machine."""

    def __init__(self, spec: ClusterSpec, part: str, folder: Path) -> None:
        self.folder = folder
        objects = {each["kind"]: each for each in manifests(spec)[part]}
        pod = objects["Deployment"]["spec"]["template"]["spec"]
        (self.container,) = pod["containers"]
        self._fill(code.CODE, code.sources())
        self._fill("/etc/dask-perennial/config", objects["ConfigMap"]["data"])
        for mount in self.container["volumeMounts"]:
            if mount["mountPath"].startswith(FOLDERS):
                Path(self._moved(mount["mountPath"])).mkdir(parents=True, exist_ok=True)
        fields = {"POD_NAME": f"lab-{part}-x", "POD_IP": "127.0.0.1"}
        values = {each["name"]: each.get("value", "") for each in self.container["env"]}
        self.environment = {
            **{key: text for key, text in os.environ.items() if not key.startswith("DASK_")},
            **{key: self._moved(text) for key, text in values.items()},
            **fields,
        }

    def command(self, words: list[str]) -> list[str]:
        filled = [
            word.replace("$(POD_NAME)", "lab-x").replace("$(POD_IP)", "127.0.0.1") for word in words
        ]
        found = [
            self._moved(word.replace("lab-scheduler.default.svc", "127.0.0.1")) for word in filled
        ]
        return [sys.executable, *found[1:]]

    def start(self) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("wb") as log:
            return subprocess.Popen(
                self.command(self.container["command"]),
                env=self.environment,
                cwd=self._moved(self.container["workingDir"]),
                stdout=log,
                stderr=log,
            )

    def ready(self) -> bool:
        words = self.command(self.container["readinessProbe"]["exec"]["command"])
        return subprocess.run(["cat", words[1]], capture_output=True, check=False).returncode == 0

    def _fill(self, path: str, texts: dict[str, str]) -> None:
        for name, text in texts.items():
            file = Path(self._moved(path)) / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(self._moved(text) if path != code.CODE else text)

    def _moved(self, text: str) -> str:
        return re.sub("|".join(FOLDERS), lambda found: f"{self.folder}{found[0]}", text)


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("p")


@pytest.mark.lab
def test_a_cluster_runs_from_what_is_mounted(folder: Path) -> None:
    """Nothing else of dask-perennial can be imported there: its package is the mounted one."""
    comm, dashboard = free_ports(2)
    spec = spec_of(scheduler={"port": comm, "dashboard_port": dashboard, "memory": "512 MiB"})
    scheduler, worker = Pod(spec, "scheduler", folder / "s"), Pod(spec, "cpu", folder / "w")
    with ExitStack() as stack:
        running = []
        for pod in (scheduler, worker):
            process = stack.enter_context(pod.start())
            stack.callback(process.kill)
            running.append(process)
            wait_until(lambda pod=pod, process=process: pod.ready() or process.poll() is not None)
        log = (folder / "s" / "log").read_text()
        assert pod.ready(), log + (folder / "w" / "log").read_text()
        assert "No page of the scaler" not in log
        with Client(f"tcp://127.0.0.1:{comm}", timeout=30) as client:
            (place,) = client.submit(lambda: __import__("perennial").__path__).result(timeout=60)
            assert place == str(folder / "w" / code.CODE.lstrip("/") / "perennial")
            flags = client.submit(lambda: __import__("sys").flags.safe_path).result(timeout=60)
            assert flags is True
            there = client.run(installed)  # as `doctor` asks for packages
            assert next(iter(there.values()))["distributed"]
        alive = scheduler.command(scheduler.container["livenessProbe"]["exec"]["command"])
        subprocess.run(alive, cwd=folder, timeout=60, check=True)
        asked = [scheduler.command(["python", "-P", code.START])[2]]
        pages = [*asked, "perennial.platforms.kubernetes.page", alive[-1], "/json/counts.json"]
        said = subprocess.run(
            [sys.executable, "-P", *pages], cwd=folder, capture_output=True, timeout=60, check=True
        )
        assert json.loads(said.stdout)[0]["workers"] == 1
        running[1].terminate()  # the drain is there as well
        assert running[1].wait(60) == 0


def said_by(folder: Path, module: str, python: str = sys.executable, path: str = "") -> str:
    """What the start says of an image."""
    file = folder / "start.py"
    file.write_text(code.sources()["start.py"])
    done = subprocess.run(
        [python, str(file), module],
        env={"PATH": os.environ["PATH"], "POD_NAME": "lab-cpu-x", "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line


def test_an_image_with_an_older_dask_is_refused_in_one_line(folder: Path) -> None:
    about = folder / "distributed-2026.5.2.dist-info" / "METADATA"
    about.parent.mkdir()
    about.write_text("Metadata-Version: 2.1\nName: distributed\nVersion: 2026.5.2\n")
    assert said_by(folder, "dask", path=str(folder)) == (
        "lab-cpu-x: found distributed 2026.5.2 in its image, and 2026.6 or newer is needed; name"
        " another one in kubernetes.image"
    )


def test_an_image_without_dask_or_without_us_is_refused_in_one_line(folder: Path) -> None:
    bare = folder / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    python = str(bare / "bin" / "python")
    assert said_by(folder, "dask", python).startswith(
        "lab-cpu-x: its image has no distributed for "
    )
    assert "no dask-perennial[kubernetes], which the scaler needs" in said_by(
        folder, "perennial.scaler", python
    )


def test_what_is_refused_is_what_our_own_package_refuses() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == f">={'.'.join(map(str, start.PYTHON))}"
    least = f"distributed>={'.'.join(map(str, start.DISTRIBUTED))}"
    assert any(each.startswith(least) for each in project["dependencies"])


def test_all_that_it_imports_of_ours_is_mounted() -> None:
    """And nothing that it does not import, but for what commands run there."""
    found = {f"perennial.platforms.kubernetes.{name}" for name in ("health", "page")}
    texts = {path: text for path, text in code.sources().items() if path != "start.py"}
    preloads = {path for path in texts if path.startswith("perennial/preloads/")}
    for text in texts.values():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("perennial"):
                found |= {str(node.module), *(f"{node.module}.{each.name}" for each in node.names)}
    found.add("perennial.scaler.dashboard_page")  # by its name, where there is Bokeh
    found.add("perennial.isolated.packages")  # `doctor` has each worker run it
    files = {f"{name.replace('.', '/')}.py" for name in found}
    known = {path.relative_to(ROOT).as_posix() for path in (ROOT / "perennial").rglob("*.py")}
    wanted = {file for file in files if file in known} - {"perennial/notebook.py"}
    packages = {f"{parent}/__init__.py" for file in wanted for parent in Path(file).parents}
    packages -= {"./__init__.py"}
    assert texts.keys() == wanted | preloads | packages


def test_kubectl_can_keep_what_it_has_applied() -> None:
    """As an annotation of the object itself, of 256 KiB at most."""
    (made,) = manifests(spec_of())["preloads"]
    assert len(json.dumps(made)) < 250_000
    assert made["immutable"] is True
    assert re.fullmatch(r"lab-preloads-[0-9a-f]{7}-0[0-9a-f]{7}", made["metadata"]["name"])


def test_no_group_is_called_like_it() -> None:
    with pytest.raises(SpecError, match=r"workers\.preloads: .*rename the group"):
        spec_of(workers={"preloads": {}})
