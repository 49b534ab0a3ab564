"""`perennial init`, `check` and `schema`, as a user runs them."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psutil
import pytest

from perennial.capacity import MachineResources
from perennial.platforms.local.starter import Ports, fit, starter
from perennial.spec import load, loads, schema
from tests.homes import PERENNIAL, wait_until
from tests.ports import free_ports

EXAMPLE = Path(__file__).parents[2] / "examples" / "local.yaml"


class Shell:
    """A new user's home."""

    def __init__(self, home: Path) -> None:
        self.home = home
        keep = ("PATH", "LANG", "LC_ALL", "TMPDIR")
        self.environment = {key: os.environ[key] for key in keep if key in os.environ}
        self.environment |= {"HOME": str(home), "XDG_DATA_HOME": str(home / "my data")}

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [PERENNIAL, *words],
            cwd=self.home,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def tree(self) -> dict[Path, int]:
        return {path: path.lstat().st_mtime_ns for path in self.home.rglob("*")}

    def ok(self, *words: str) -> str:
        done = self.run(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def fails(self, code: int, *words: str) -> str:
        """Standard error of a command that fails and changes nothing."""
        before = self.tree()
        done = self.run(*words)
        assert (done.returncode, done.stdout) == (code, ""), done.stderr
        assert self.tree() == before
        assert "Traceback" not in done.stderr
        return done.stderr

    def write(self, text: str) -> str:
        (self.home / "lab.yaml").write_text(text)
        return "lab.yaml"


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that this process listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def spec(more: str = "", name: str = "lab", group: str = "{count: 1, memory: 1 GiB}") -> str:
    scheduler, dashboard, notebooks = free_ports(3)
    return (
        f"name: {name}\nplatform: local\nworkers: {{cpu: {group}}}\n"
        f"scheduler: {{port: {scheduler}, dashboard_port: {dashboard}}}\n"
        f"jupyter: {{port: {notebooks}}}\n{more}"
    )


def checked_when_ports_are_free(shell: Shell) -> subprocess.CompletedProcess[str]:
    """Check a file with the usual ports, on which a cluster of another test may stand."""

    def checked() -> subprocess.CompletedProcess[str] | None:
        done = shell.run("check", "--strict")
        return None if "taken by process" in done.stderr else done

    found: subprocess.CompletedProcess[str] = wait_until(checked)
    return found


def test_init_then_check(shell: Shell) -> None:
    said = shell.ok("init")
    assert said.startswith("cluster.yaml: 1 scheduler, ")
    assert said.endswith("`perennial up` starts it\n")
    checked = checked_when_ports_are_free(shell)
    assert checked.returncode == 0, checked.stderr
    assert checked.stdout.startswith("cluster.yaml: ok: 1 scheduler, ")
    first = load(shell.home / "cluster.yaml")
    assert first.workers["cpu"].memory * first.workers["cpu"].count < psutil.virtual_memory().total
    assert (shell.home / "cluster.yaml").stat().st_mode & 0o777 == 0o644


def test_editors_find_the_schema(shell: Shell) -> None:
    """The line names a file by URL, without spaces, and it is there."""
    shell.ok("init")
    line = (shell.home / "cluster.yaml").read_text().splitlines()[0]
    match = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", line)
    assert match is not None
    url = urlsplit(match[1])
    assert url.scheme == "file"
    assert json.loads(Path(unquote(url.path)).read_text()) == schema()


def test_init_keeps_what_is_there(shell: Shell) -> None:
    file = shell.write("mine\n")
    assert shell.fails(1, "init", file) == (
        "lab.yaml: exists already; add --force to write over it\n"
    )
    assert "`perennial up --file lab.yaml` starts it" in shell.ok("init", file, "--force")
    assert load(shell.home / file).name == "lab"
    (shell.home / "link.yaml").symlink_to("nowhere")
    assert "exists already" in shell.fails(1, "init", "link.yaml")


def test_init_elsewhere(shell: Shell) -> None:
    assert shell.fails(1, "init", "no/lab.yaml") == "no: no such folder; make it first\n"
    (shell.home / "folder").mkdir()
    done = shell.run("init", "folder", "--force")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "folder: cannot be written: is a directory; choose another file\n"


@pytest.mark.parametrize("name", ["Lab", "läb", "a" * 41, "a: b", "a\nplatform: x", "", "-", "#"])
def test_init_with_a_bad_name(shell: Shell, name: str) -> None:
    said = shell.fails(2, "init", f"--name={name}")
    assert said.startswith("--name: name: found '")
    assert said.count("\n") == 1


def test_init_with_a_name_that_is_a_word_of_yaml(shell: Shell) -> None:
    shell.ok("init", "--name", "no")
    assert load(shell.home / "cluster.yaml").name == "no"


@pytest.mark.parametrize("cores", [1, 2, 3, 8, 64, 256])
@pytest.mark.parametrize("memory", [2**28, 2**30, 4 * 2**30, 23 * 2**30, 2**40])
def test_every_machine_gets_a_sound_file(cores: int, memory: int) -> None:
    count, threads, each = fit(MachineResources(cores, memory, memory))
    assert 1 <= count * threads <= max(cores, threads)
    assert count * each <= memory
    text = starter(
        "lab",
        MachineResources(cores, memory, memory),
        Ports(1, 2, 3),
        "file:///x",
        jupyter=cores > 2,
    )
    made = loads(text)
    assert (made.workers["cpu"].count, made.workers["cpu"].memory) == (count, each)
    assert (made.jupyter is not None) == (cores > 2)


def test_the_example_is_for_a_small_machine() -> None:
    example = load(EXAMPLE)
    [(name, group)] = example.workers.items()
    assert (example.name, name, group.count, group.threads) == ("lab", "cpu", 2, 1)
    assert group.memory * group.count <= 4 * 2**30
    assert example.jupyter is not None


def test_check_says_what_there_is_and_changes_nothing(shell: Shell) -> None:
    file = shell.write(
        spec().replace(
            "{cpu: {count: 1, memory: 1 GiB}}",
            "{cpu: {count: 2, memory: 512 MiB}, gpu: {processes: 2, threads: 1, memory: 1 GiB}}",
        )
    )
    before = shell.tree()
    done = shell.run("check", file)
    assert done.stdout == (
        "lab.yaml: ok: 1 scheduler, 4 workers in 2 groups (4 threads, 3 GiB), Jupyter\n"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert shell.tree() == before


def test_check_names_every_fault(shell: Shell) -> None:
    file = shell.write("name: lab\nplatform: local\nwokers: {}\nsecurity: {tls: off}\n")
    lines = shell.fails(2, "check", file).splitlines()
    assert [line.split(": ")[0:2] for line in lines] == [
        ["lab.yaml:3", "wokers"],
        ["lab.yaml:4", "security.tls"],
    ]


def test_check_without_a_file(shell: Shell) -> None:
    said = shell.fails(2, "check")
    assert said.startswith("cluster.yaml: (file): found no such file; ")
    assert shell.fails(2, "check", ".").startswith(".: (file): found a directory; ")


def test_a_taken_port_is_named_by_process(shell: Shell, taken: int) -> None:
    file = shell.write(spec().replace("jupyter: {port: ", f"jupyter: {{port: {taken}}} # "))
    said = shell.fails(2, "check", file)
    assert said.startswith(
        f"lab.yaml:5: jupyter.port: found {taken}, taken by process {os.getpid()} (`"
    )
    assert Path(sys.executable).name in said


def test_warnings_and_strict(shell: Shell) -> None:
    file = shell.write(
        spec(
            "security: {tls: false}\ndask: {distributed.worker.memory.taget: 0.5}\n",
            group="{count: 1000, threads: 8, memory: 1 TiB}",
        )
    )
    done = shell.run("check", file)
    assert done.returncode == 0
    assert done.stdout.startswith("lab.yaml: ok: ")
    warnings = done.stderr.splitlines()
    assert [warning.split(": ")[:3] for warning in warnings] == [
        ["warning", "lab.yaml:3", "workers"],
        ["warning", "lab.yaml:3", "workers"],
        ["warning", "lab.yaml:6", "security.tls"],
        ["warning", "lab.yaml:7", "dask.distributed.worker.memory.taget"],
    ]
    strict = shell.fails(2, "check", "--strict", file)
    assert strict.splitlines() == [line.removeprefix("warning: ") for line in warnings]


def test_schema(shell: Shell) -> None:
    printed = json.loads(shell.ok("schema"))
    assert printed == schema()
    assert shell.ok("schema", "-o", "made/schema.json") == ""
    assert json.loads((shell.home / "made" / "schema.json").read_text()) == printed
    said = shell.fails(1, "schema", "-o", "/dev/null/schema.json")
    assert said == "/dev/null/schema.json: cannot be written: file exists; choose another file\n"


def test_what_others_use_is_not_promised() -> None:
    """On a shared machine the proposal is of the memory that is free."""
    gib = 2**30
    count, _, each = fit(MachineResources(16, 128 * gib, 20 * gib))
    assert count * each <= 18 * gib
    assert fit(MachineResources(2, 8 * gib, 8 * gib)) == fit(MachineResources(2, 8 * gib, 7 * gib))
