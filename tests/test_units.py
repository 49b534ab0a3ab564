"""What systemd and supervisord themselves make of the rendered files."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePath

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from supervisor.options import ServerOptions

from perennial import render
from perennial.services import INSTANCE, Access, Command, Lifecycle, Limits, Service
from perennial.spec import loads
from tests.examples import examples
from tests.ports import free_ports
from tests.test_render import CASES, VALUES, carried_by_text, ejected, read

MANAGER = "/usr/lib/systemd/systemd"
NAMES = sorted(path.name for path in CASES.iterdir())
#: Those that stand on one machine, in a folder that may be anywhere.
LOCAL = [name for name in NAMES if read(name).platform == "local"]
#: The worst score that a unit may have, of 10.
SCORES = {
    "scheduler.service": 1.5,
    "scaler.service": 1.5,
    "jupyter.service": 2.0,
    "relay.service": 1.5,
    "keeper.service": 1.5,
    "@.service": 1.7,
}

needs_systemd = pytest.mark.skipif(
    not (os.path.exists(MANAGER) and shutil.which("systemd-analyze")),
    reason="systemd is not installed",
)


@pytest.fixture
def units() -> Iterator[Path]:
    """A folder that systemd can read as another user: pytest's own are closed to others."""
    with tempfile.TemporaryDirectory(prefix="perennial-") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def install(files: Mapping[str, str], folder: Path) -> list[str]:
    """Put the units of a rendering into a folder, with an interpreter that exists."""
    names = []
    for path, text in files.items():
        if "systemd/system/" not in path:
            continue
        unit = re.sub(r'^ExecStart=(?:"[^"]*"|\S+)', "ExecStart=/bin/true", text, flags=re.M)
        (folder / PurePath(path).name).write_text(unit, encoding="utf-8")
        names.append(PurePath(path).name)
    return names


def systemd(folder: Path, *command: str) -> str:
    """Run one of systemd's programs on the units of a folder, beside the machine's own."""
    # As root the manager refuses to play its part.
    nobody = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
    done = subprocess.run(
        command,
        check=False,
        env={
            "PATH": os.environ["PATH"],
            "SYSTEMD_UNIT_PATH": f"{folder}:",
            "SYSTEMD_LOG_TARGET": "console",
        },
        capture_output=True,
        text=True,
        timeout=60,
        **nobody,  # type: ignore[call-overload]
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return str(done.stdout + done.stderr)


@needs_systemd
@pytest.mark.parametrize("name", NAMES)
def test_systemd_finds_nothing_wrong(units: Path, name: str) -> None:
    names = install(ejected(read(name), "systemd"), units)
    concrete = [each.replace("@.", "@0.") for each in names]
    said = systemd(units, "systemd-analyze", "verify", "--man=no", *concrete)
    assert not [line for line in said.splitlines() if "dask" in line]


@needs_systemd
@pytest.mark.parametrize("name", NAMES)
def test_the_units_are_hardened(units: Path, name: str) -> None:
    for each in install(ejected(read(name), "systemd"), units):
        limit = next((score for end, score in SCORES.items() if each.endswith(end)), None)
        if limit is None:
            assert not each.endswith(".service")
            continue
        said = systemd(
            units, "systemd-analyze", "security", "--offline=true", "--no-pager", str(units / each)
        )
        score = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
        assert score is not None, said
        assert float(score[1]) <= limit, f"{each}: {said}"


class Manager:
    """What systemd's own manager has read, from the dump of its test mode.

    Parameters
    ----------
    folder : pathlib.Path
        Folder of the units.
    unit : str
        The unit to start, which draws in the others.
    """

    def __init__(self, folder: Path, unit: str) -> None:
        self.dump = systemd(folder, MANAGER, "--test", "--system", f"--unit={unit}")

    def block(self, unit: str) -> str:
        """All that it says of a unit."""
        start = self.dump.index(f"-> Unit {unit}:\n")
        end = self.dump.find("\n\t-> Unit ", start)
        return self.dump[start : end if end > 0 else None]

    def argv(self, unit: str) -> list[str]:
        """Its command, with `$$` as it stands in the unit."""
        match = re.search(r"-> ExecStart:\n\s*Command Line: (.*)\n", self.block(unit))
        assert match is not None, self.block(unit)
        return list(shown_words(match[1]))

    def values(self, unit: str, setting: str) -> list[str]:
        """All values of a setting of one line each."""
        return re.findall(rf"^\t+{setting}: (.*)$", self.block(unit), re.M)


def shown_words(line: str) -> Iterator[str]:
    """Read a command line as systemd shows it: words in double quotes, C's escapes."""
    simple = dict(zip("abfnrtv", "\a\b\f\n\r\t\v", strict=True))
    for quoted, bare in re.findall(r'"((?:[^"\\]|\\.)*)"(?: |$)|([^" ]+)(?: |$)', line):
        yield bare or re.sub(
            r"\\(?:([0-7]{3})|(.))",
            lambda m: chr(int(m[1], 8)) if m[1] else simple.get(m[2], m[2]),
            quoted,
        )


def service(command: Command, number: int = 0, *writes: str) -> Service:
    return Service(
        name=f"s{number}",
        role="scheduler",
        description="A service",
        command=command,
        access=Access(secrets=("/etc/x/tls/a key.pem",), writes=writes or ("/tmp",)),
        limits=Limits(memory=2**30),
        lifecycle=Lifecycle(stop_timeout=30.0, notifies=True, watchdog=10.0),
    )


def load(cluster: str, *parts: Service, counts: Mapping[str, int] | None = None) -> Manager:
    """Let systemd read the units of some services."""
    with tempfile.TemporaryDirectory(prefix="perennial-") as folder:
        os.chmod(folder, 0o755)
        for path, text in render.systemd(parts, cluster, counts or {}).items():
            (Path(folder) / PurePath(path).name).write_text(text, encoding="utf-8")
        return Manager(Path(folder), f"dask-{cluster}.target")


ARGUMENTS = st.lists(VALUES.filter(carried_by_text), max_size=6)
VARIABLES = VALUES.filter(
    lambda value: carried_by_text(value) and not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", value)
)


@needs_systemd
@settings(
    max_examples=examples(25, least=8), deadline=None, phases=[Phase.generate]
)  # shrinking takes minutes
@given(st.lists(st.tuples(ARGUMENTS, VARIABLES), min_size=8, max_size=8))
def test_systemd_gives_back_every_argument_and_variable(
    wanted: list[tuple[list[str], str]],
) -> None:
    """Eight services at a time: starting the manager takes longer than reading a unit."""
    commands = [
        Command(("/bin/true", *words), (("FIRST", value), ("SECOND", "2")), "/tmp")
        for words, value in wanted
    ]
    manager = load("lab", *(service(command, n) for n, command in enumerate(commands)))
    for number, command in enumerate(commands):
        unit = f"dask-lab-s{number}.service"
        program, *words = manager.argv(unit)
        assert [program, *(word.replace("$$", "$") for word in words)] == list(command.argv)
        (_, value), _ = command.environment
        shown = f"\t\tEnvironment: FIRST={value}\n\t\tEnvironment: SECOND=2\n"
        assert shown in manager.block(unit)


@needs_systemd
def test_systemd_gives_back_folders_secrets_and_limits() -> None:
    folders = ("/srv/50 % of ü #;$x", "/var/lib/dask-perennial/lab/it is 5 %")
    words = ("--key", "/etc/x/tls/a key.pem", "--same=/etc/x/tls/a key.pem")
    manager = load("my-lab", service(Command(("/bin/true", *words), (), folders[0]), 0, *folders))
    unit = "dask-my-lab-s0.service"
    assert manager.values(unit, "WorkingDirectory") == [folders[0]]
    assert manager.values(unit, "ReadWritePaths") == [folders[0]]
    assert manager.values(unit, "StateDirectory") == ["dask-perennial/lab/it is 5 %"]
    credentials = f"/run/credentials/{unit}"
    assert manager.argv(unit) == [
        "/bin/true",
        "--key",
        f"{credentials}/a key.pem",
        f"--same={credentials}/a key.pem",
    ]
    assert manager.values(unit, "Slice") == ["dask-my\\x2dlab.slice"]
    assert manager.values("dask-my\\x2dlab.slice", "Slice") == ["dask.slice"]
    shown = ("Type", "Restart", "KillMode", "TimeoutStopSec", "WatchdogSec", "MemoryMax")
    assert [manager.values(unit, name)[0] for name in shown] == [
        *("notify", "always", "mixed", "30s", "10s", str(2**30)),
    ]


@needs_systemd
def test_a_group_is_a_template_whose_target_draws_in_its_size() -> None:
    command = Command(("/bin/true", "--name", f"cpu-{INSTANCE}", "%i"), (), "/tmp")
    member = replace(service(command), name=f"cpu-{INSTANCE}", role="worker", group="cpu")
    manager = load("lab", member, counts={"cpu": 2})
    for number in "01":
        unit = f"dask-lab-cpu@{number}.service"
        assert manager.argv(unit) == ["/bin/true", "--name", f"cpu-{number}", "%i"]
        assert "\t\tPartOf: dask-lab-cpu.target (" in manager.block(unit)
    assert "cpu@2" not in manager.dump
    assert "\t\tPartOf: dask-lab.target (" in manager.block("dask-lab-cpu.target")


@needs_systemd
def test_systemd_makes_the_users(units: Path) -> None:
    files = ejected(read("awkward"), "systemd")
    (units / "etc").mkdir(mode=0o755)
    config = units / "dask.conf"
    config.write_text(files["etc/sysusers.d/dask-awkward.conf"], encoding="utf-8")
    subprocess.run(["systemd-sysusers", f"--root={units}", str(config)], check=True, timeout=30)
    homes = {
        line.split(":")[0]: line.split(":")[5]
        for line in (units / "etc" / "passwd").read_text(encoding="utf-8").splitlines()
    }
    assert homes["dask-awkward"] == "/mnt/big disk/perennial-awkward"
    assert homes["dask-awkward-jupyter"].startswith("/var/lib/dask-perennial/awkward/jupyter")


@pytest.mark.parametrize("name", LOCAL)
def test_supervisord_reads_an_ejected_cluster_as_it_stands(tmp_path: Path, name: str) -> None:
    """Only with what the README says to make."""
    spec = read(name)
    (tmp_path / "logs").mkdir()
    for path, text in ejected(spec, "supervisord", str(tmp_path)).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    options = ServerOptions()
    options.realize(["-c", str(tmp_path / "supervisord.conf")])
    assert not [text for text in options.parse_warnings if "No file matches" in text]
    groups = sorted(options.process_group_configs)
    members = [f"{name}-{n}" for name, group in spec.workers.items() for n in range(group.count)]
    jupyter = ["jupyter"] if spec.jupyter is not None else []
    assert sorted(group.name for group in groups) == sorted(["scheduler", *members, *jupyter])
    # supervisord stops the last one first.
    assert groups[-1].name == "scheduler"
    assert [server["family"].name for server in options.server_configs] == ["AF_UNIX"]


PROGRAM = """
import os, signal, sys, time
name, log, seconds, stubborn = sys.argv[1:]
def write(text):
    with open(log, "a") as file:
        file.write(f"{text} {name}\\n")
def leave(*_):
    write("stopping")
    time.sleep(float(seconds))
    write("stopped")
    sys.exit()
signal.signal(signal.SIGTERM, leave)
if stubborn == "child":  # leaves only with its group
    if not os.fork():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        write(f"child {os.getpid()}")
        time.sleep(120)
write("started")
time.sleep(120)
"""


def test_supervisord_stops_the_scheduler_first_and_kills_with_all_children(tmp_path: Path) -> None:
    log, script = tmp_path / "events", tmp_path / "program.py"
    script.write_text(PROGRAM)
    (tmp_path / "conf.d").mkdir()
    for name, seconds, timeout, kind in (
        ("a-0", "0", 5.0, "alone"),
        ("scheduler", "0.5", 5.0, "alone"),
        ("z-0", "60", 1.0, "child"),  # still busy when its time is over
    ):
        command = (sys.executable, str(script), name, str(log), seconds, kind)
        part = replace(
            service(Command(command, (), str(tmp_path))),
            name=name,
            role="scheduler" if name == "scheduler" else "worker",
            lifecycle=Lifecycle(stop_timeout=timeout),
        )
        (tmp_path / "conf.d" / f"{name}.conf").write_text(render.program(part))
    main = tmp_path / "supervisord.conf"
    main.write_text(render.supervisord_conf(tmp_path / "s", tmp_path / "log", tmp_path / "conf.d"))
    daemon = subprocess.Popen(
        [sys.executable, "-m", "supervisor.supervisord", "--nodaemon", "--silent", "-c", str(main)]
    )
    try:
        wait_for(lambda: log.exists() and log.read_text().count("started") == 3)
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(30)
    lines = log.read_text().splitlines()
    ends = [line for line in lines if line.startswith(("stopping", "stopped"))]
    assert ends[:3] == ["stopping scheduler", "stopped scheduler", "stopping z-0"]
    assert ends[3:] == ["stopping a-0", "stopped a-0"]
    (child,) = [int(line.split()[1]) for line in lines if line.startswith("child")]
    wait_for(lambda: not os.path.exists(f"/proc/{child}"))


def test_an_ejected_cluster_runs_under_supervisord_as_its_readme_says() -> None:
    scheduler, dashboard = free_ports(2)
    with tempfile.TemporaryDirectory(prefix="perennial-") as folder:
        root = Path(folder) / "it's here"
        spec = loads(
            f"name: lab\nplatform: local\nenvironment: {{python: {sys.executable}}}\n"
            f"scheduler: {{port: {scheduler}, dashboard_port: {dashboard}}}\n"
            "workers: {cpu: {count: 2, memory: 1 GiB}}\njupyter: null\n"
        )
        files = ejected(spec, "supervisord", str(root))
        for path, text in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text, encoding="utf-8")
        readme = files["README.txt"]
        prepare = re.findall(r"^  (\S.*)$", section(readme, "Prepare, once:", "Operate:"), re.M)
        start, control = re.findall(r"^  (\S.* -m supervisor\..*)$", readme, re.M)
        client = section(readme, ".yaml:\n", "Whoever")
        (root / "home" / "dask").mkdir(parents=True)
        (root / "home" / "dask" / "lab.yaml").write_text(re.sub("^  ", "", client, flags=re.M))
        for command in (*prepare, start):
            subprocess.run(["sh", "-ec", command], check=True, timeout=60)
        control = control.removesuffix("COMMAND")
        try:
            code = (
                "from distributed import Client; client = Client(timeout=60);"
                "client.wait_for_workers(2, timeout=60); print(client.submit(sum, [1, 2]).result())"
            )
            done = subprocess.run(
                [sys.executable, "-c", code],
                env=os.environ | {"DASK_CONFIG": str(root / "home" / "dask")},
                check=False,
                capture_output=True,
                text=True,
                timeout=150,
            )
            assert done.stdout == "3\n", done.stderr + (root / "logs/cpu-0.log").read_text()
            listed = subprocess.run(
                ["sh", "-c", control + "status"], check=True, capture_output=True, text=True
            ).stdout
            assert sorted(line.split()[0] for line in listed.splitlines()) == [
                *("cpu-0", "cpu-1", "scheduler"),
            ]
        finally:
            subprocess.run(["sh", "-c", control + "shutdown"], check=True, timeout=60)
            wait_for(lambda: not (root / "supervisord.pid").exists(), 60.0)


def section(text: str, after: str, before: str) -> str:
    """A part of a text, between two others."""
    return text.partition(after)[2].partition(before)[0]


def wait_for(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
