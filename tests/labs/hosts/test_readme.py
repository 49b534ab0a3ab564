"""The README's story of three machines, followed word for word from the operator's chair.

Its first commands made the environment that runs this test, and its last ones need Pulumi's
language host, which no package registry has; the program behind both is the same.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.labs.hosts.base import CHECKOUT, cache
from tests.labs.hosts.network import Network

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

#: What a clone has that the story needs.
CLONE = ("perennial", "stacks", "systemd", "supervisord", "templates", "examples")
#: Commands that made the environment of this test.
MADE = ("python3.11 -m venv", ". .venv/bin/activate", "pip install -e")


def section() -> str:
    text = (CHECKOUT / "README.md").read_text()
    found = re.search(r"^## On your own machines\n(.*?)^## ", text, re.M | re.S)
    assert found
    return found[1]


def commands() -> list[str]:
    """What a reader types, without the comments beside it."""
    typed = re.findall(r"^\$ (.+?)(?: +#.*)?$", section(), re.M)
    return typed[: next(at for at, line in enumerate(typed) if line.startswith("cp "))]


def cluster_file() -> str:
    [text] = re.findall(r"^```yaml\n(.*?)^```$", section(), re.M | re.S)
    return str(text)


@pytest.fixture
def clone(network: Network) -> Path:
    """A clone of the repository in the operator's home folder."""
    folder = network.operator.home / "dask-perennial"
    folder.mkdir()
    for name in CLONE:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(CHECKOUT / name, folder / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, folder / name)
    return folder


def locked(version: str) -> str:
    """Versions that are locked, for a version of Python: the machines' is older than this one."""
    text = re.sub(r" *\\\n +--hash=\S+", "", (CHECKOUT / "constraints.txt").read_text())
    pins = [Requirement(line) for line in text.splitlines() if re.match(r"\w", line)]
    return "".join(
        f"{pin.name}{pin.specifier}\n"
        for pin in pins
        if pin.marker is None or pin.marker.evaluate({"python_full_version": version})
    )


def make_wheels(command: str, clone: Path, version: str) -> None:
    """Run the README's command for the wheels; what it downloads once is kept.

    It runs outside of the lab's network, which has no way to a package index.
    """
    constraints = clone / "constraints.txt"
    constraints.write_text(locked(version))
    kept = cache("wheels") / hashlib.sha256(constraints.read_bytes()).hexdigest()[:12]
    environment = {
        **os.environ,
        "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}",
        "PIP_CONSTRAINT": str(constraints),
    }
    if kept.is_dir():
        environment |= {
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(kept),
            "PIP_NO_BUILD_ISOLATION": "false",  # how pip reads it: do not isolate
        }
    subprocess.run(["sh", "-ec", command], cwd=clone, env=environment, check=True, timeout=600)
    if not kept.is_dir():
        fresh = kept.with_suffix(".new")
        shutil.rmtree(fresh, ignore_errors=True)
        ignored = shutil.ignore_patterns("dask_perennial-*")
        shutil.copytree(clone / "wheels", fresh, ignore=ignored)
        fresh.rename(kept)


def test_the_section_is_followed_word_for_word(network: Network, clone: Path) -> None:
    a, b, c = network.machines("machine-a", "machine-b", "machine-c")
    version = a.run("python3", "-c", "import platform; print(platform.python_version())").stdout
    (clone / "cluster.yaml").write_text(cluster_file())
    said: dict[str, list[str]] = {}

    for command in commands():
        if command.startswith(MADE):
            continue
        if command.startswith("pip wheel"):
            make_wheels(command, clone, version.strip())
            continue
        done = network.operator.run("sh", "-ec", command, cwd=clone, timeout=600)
        said.setdefault(command, []).append(done.stdout)

    assert said["perennial check"] == [
        "cluster.yaml: ok: 1 scheduler, 2 workers in 1 group (4 threads, 4 GiB), Jupyter\n"
    ]
    first, edited = said["perennial plan"]
    assert re.search(r"machine-a +create +machine-a +new machine: scheduler, jupyter\n", first)
    assert first.endswith("lab: 7 to change\n")
    made, changed = said["perennial up --yes"]
    assert made.startswith("lab is up: 7 made in ")
    assert "tls://machine-a:8786" in made
    assert re.search(r"^EWR|origin +EWR +JFK +LGA$", said["python examples/flights.py"][0], re.M)
    assert "both agree" in said["python examples/flights.py"][0].lower()
    assert said["perennial status"][0].count("RUNNING") == 4
    restarted = re.findall(r"^  \S (\S+) +(\S+) +(\S+)", edited, re.M)
    assert restarted == [
        ("machine-b", "restart", "cpu-machine-b-0"),
        ("machine-c", "restart", "cpu-machine-c-0"),
    ]
    assert "2 changed, 5 unchanged" in changed
    assert said["perennial down --force"][0].startswith("lab is down\n")
    for machine in (a, b, c):
        assert machine.run("find", "/etc", "/var/lib", "-name", "*dask*").stdout == ""
