"""Members under supervisord are away in turns: real supervisords, a real scheduler and workers."""

from __future__ import annotations

import hashlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from perennial.files import make_private
from perennial.paths import ClusterPaths
from perennial.platforms.hosts import deploy
from perennial.platforms.hosts.desired_state import DesiredState, Steps
from perennial.platforms.hosts.drift import own_files
from perennial.platforms.hosts.machine_services import services_by_machine
from perennial.render import supervisord_conf
from perennial.stacks.rollout import slots
from perennial.supervision import run_once, single_instance, supervisor
from perennial.supervision.plan import Change
from perennial.supervision.program import Program
from perennial.supervision.single_instance import holder, is_ready, ready_mark
from tests import dask_processes
from tests.homes import wait_until
from tests.platforms.hosts.clusters import spec_of, user_home

GROUPS = ("cpu", "gpu")
#: supervisord counts a program as running after five seconds; a worker needs longer here.
PROGRAM = """[program:{name}]
command={python} -I -S {hold} {lock} {log} /bin/sh -c "sleep 6; exec {worker}"
environment=MARK="{mark}"
startsecs=5
stopwaitsecs=60
killasgroup=true
"""
WORKER = (
    "{python} -m dask worker {address} --name {name} --nworkers 1 --nthreads 1"
    " --memory-limit 256MiB --no-dashboard --local-directory {scratch}"
    " --preload-nanny perennial.preloads.ready"
)


class Machine:
    """What stands in the place of a machine: a supervisord, and an agent that answers for it."""

    def __init__(self, root: Path, name: str, address: str) -> None:
        self.name = name
        self.address = address
        self.paths = ClusterPaths(root / name)
        self.deployed: dict[str, str] = {}
        make_private(self.paths.root)
        self.members = [f"{group}-{name}-0" for group in GROUPS]

    def program(self, group: str, mark: str) -> Program:
        name, paths = f"{group}-{self.name}-0", self.paths
        values = {"python": sys.executable, "name": name, "address": self.address, "mark": mark}
        worker = WORKER.format(**values, scratch=paths.scratch)
        lock, log = paths.run / f"{name}.lock", paths.logs / f"{name}.log"
        text = PROGRAM.format(
            **values, hold=single_instance.__file__, lock=lock, log=log, worker=worker
        )
        return Program(name, text, group, registers=(name,), stop_timeout=60.0)

    def deploy(self, mark: str, again: Sequence[str] = ()) -> None:
        wanted = DesiredState(
            "supervisord",
            *((), (), {}, {}),
            programs=tuple(self.program(group, mark) for group in GROUPS),
        )
        agent: Any = self
        assigned = services_by_machine(spec_of())["machine-b"]
        now, where = (Steps((), tuple(again), ()), self.found()), user_home()
        deploy._change_supervisord(agent, (assigned, where), wanted, now, slots(f"test-{mark}", 1))
        self.deployed = own_files(wanted, where.paths(assigned.cluster))

    def found(self) -> dict[str, Any]:
        """Say what supervisord's files were, and are."""
        there = {path: self.paths.units / Path(path).name for path in self.deployed}
        now = {path: file.read_bytes() for path, file in there.items() if file.exists()}
        digests = {path: hashlib.sha256(text).hexdigest() for path, text in now.items()}
        return {"manifest": {"programs": self.deployed}, "programs": digests}

    def here(self, text: str) -> str:
        return text

    def ask(self, do: str, request: dict[str, Any], **_: Any) -> Any:
        assert do == "supervisord_apply"
        log = self.paths.logs / "supervisord.log"
        conf = supervisord_conf(self.paths.socket, log, self.paths.units)
        request = {**request, "root": str(self.paths.root), "conf": conf, "dashboard": None}
        return run_once.perform({**request, "do": "apply"})

    def marks(self) -> list[str]:
        pids = [holder(self.paths.run / f"{name}.lock")[0] for name in self.members]
        found = [Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") for pid in pids]
        return [each.decode()[5:] for one in found for each in one if each.startswith(b"MARK=")]

    def close(self) -> None:
        pids = [holder(self.paths.run / f"{name}.lock")[0] for name in self.members]
        for pid in (supervisor.running(self.paths.socket, self.paths.supervisord_conf), *pids):
            if pid:
                supervisor.signal_process(pid, signal.SIGKILL)
                supervisor.wait_gone(pid, 30.0)


@pytest.fixture
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


class Watch:
    """Looks again and again which workers the scheduler knows."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._over = threading.Event()
        self.fewest = dict.fromkeys(GROUPS, 99)
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.is_set():
            names = known(self._client)
            for group in GROUPS:
                there = sum(name.startswith(f"{group}-") for name in names)
                self.fewest[group] = min(self.fewest[group], there)
            time.sleep(0.05)


def known(client: Any) -> set[str]:
    return {str(worker["name"]) for worker in dask_processes.workers_of(client).values()}


@pytest.mark.lab
@pytest.mark.timeout(300)
def test_never_are_two_of_a_group_away(home: Path) -> None:
    from distributed import Client

    with dask_processes.scheduler(home, None, "--no-dashboard") as address:
        machines = [Machine(home, name, address) for name in "ab"]
        try:
            with ThreadPoolExecutor() as pool, Client(address) as client:
                list(pool.map(lambda each: each.deploy("old"), machines))
                assert len(known(client)) == 4  # a deploy ends once all have registered
                with Watch(client) as watch:
                    list(pool.map(lambda each: each.deploy("new"), machines))
                assert watch.fewest == {"cpu": 1, "gpu": 1}
                assert len(known(client)) == 4
                assert [each.marks() for each in machines] == [["new", "new"]] * 2
        finally:
            for each in machines:
                each.close()


class Idle(Machine):
    """Its members do nothing, and nobody waits for them to register."""

    def program(self, group: str, mark: str) -> Program:
        program = super().program(group, mark)
        text = re.sub('sleep 6; exec .*"', 'exec sleep 99"', program.text)
        return replace(program, text=text.replace("startsecs=5", "startsecs=0"), registers=())

    def pids(self) -> list[int]:
        return [holder(self.paths.run / f"{name}.lock")[0] for name in self.members]

    def edit(self, name: str) -> None:
        file = self.paths.units / f"{name}.conf"
        file.write_text(file.read_text().replace("stopwaitsecs=60", "stopwaitsecs=1"))


def test_an_edited_program_is_written_again_and_restarts_only_if_it_runs_so(home: Path) -> None:
    machine = Idle(home, "a", "tcp://127.0.0.1:1")
    first, second = machine.members
    try:
        machine.deploy("mark")
        wait_until(lambda: all(machine.pids()))
        before = machine.pids()
        texts = {path: path.read_text() for path in machine.paths.units.glob("*.conf")}
        machine.edit(first)
        (machine.paths.units / f"{second}.conf").unlink()
        machine.deploy("mark")
        assert machine.pids() == before
        assert {path: path.read_text() for path in machine.paths.units.glob("*.conf")} == texts
        machine.edit(first)
        control = supervisor.Supervisor(machine.paths.socket)
        control.reload()
        control.signal_stop(first)
        control.wait_stopped([first], 30.0)
        control.remove(first)
        control.add(first)
        wait_until(lambda: all(machine.pids()))
        edited = machine.pids()
        machine.deploy("mark")
        wait_until(lambda: all(machine.pids()))
        assert machine.pids()[0] not in (edited[0], before[0])
        assert machine.pids()[1] == before[1]
        # And who was started with another file that was edited: once.
        now = machine.pids()
        machine.deploy("mark", again=[second])
        wait_until(lambda: all(machine.pids()))
        assert [a == b for a, b in zip(machine.pids(), now, strict=True)] == [True, False]
    finally:
        machine.close()


def test_each_is_replaced_once_though_its_text_stays() -> None:
    programs = {
        name: Program(name, "", group)
        for name, group in (("jupyter", None), ("cpu-a-0", "cpu"), ("gpu-a-0", "gpu"))
    }

    def replaced(*turn: str) -> list[str]:
        request = {"again": [*programs, "gone"], "turn": turn}
        return [step.name for step in run_once.again([], programs, request)]

    assert replaced() == ["jupyter", "cpu-a-0", "gpu-a-0"]
    assert replaced("cpu-a-0") == ["cpu-a-0", "gpu-a-0"]
    assert replaced("cpu-a-0", "gpu-a-0") == ["gpu-a-0"]


def test_who_waits_for_a_turn_and_who_leaves_last() -> None:
    programs = {
        name: Program(name, "", group)
        for name, group in (("jupyter", None), ("cpu-a-0", "cpu"), ("gpu-a-0", "gpu"))
    }
    steps = [
        Change("stop", "cpu-a-1", ""),
        Change("stop", "scaler", ""),
        *(Change("replace", name, "") for name in programs),
        Change("start", "cpu-a-2", ""),
    ]

    def waiting(turn: list[str] | None, *more: Change) -> list[str]:
        return [step.name for step in run_once.postponed([*steps, *more], programs, turn)]

    assert waiting([]) == ["cpu-a-1", "cpu-a-0", "gpu-a-0"]
    assert waiting(["cpu-a-0"]) == ["cpu-a-1", "gpu-a-0"]
    assert waiting(["cpu-a-0", "gpu-a-0"]) == []
    assert waiting(None) == []
    # Its work is lost anyway, and everybody's data with it.
    assert waiting([], Change("replace", "scheduler", "")) == []


@contextmanager
def held(lock: Path, words: str) -> Iterator[None]:
    files = (str(lock), f"{lock}.log")
    command = (sys.executable, "-I", "-S", single_instance.__file__, *files, "/bin/sh", "-c", words)
    with subprocess.Popen(command) as process:
        try:
            yield
        finally:
            process.kill()


def test_who_is_ready_is_who_has_said_so_since_it_was_started(tmp_path: Path) -> None:
    lock = tmp_path / "a.lock"
    mark = Path(ready_mark(lock))
    assert not is_ready(lock)
    say = f"echo -n $$ > {mark}.new; mv {mark}.new $PERENNIAL_READY; exec sleep 60"
    for words in ("exec sleep 60", say):
        with held(lock, words):
            wait_until(lambda: holder(lock)[0])
            if words is say:
                wait_until(lambda: is_ready(lock))
            else:
                time.sleep(0.5)
                assert not is_ready(lock)
    assert mark.exists()
    assert not is_ready(lock)
    with held(lock, "exec sleep 60"):
        wait_until(lambda: holder(lock)[0])
        assert not is_ready(lock)  # that was said by another one
